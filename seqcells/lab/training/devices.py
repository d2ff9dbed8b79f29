"""The device and the threads of this machine, and the transfer of batches to the device."""

import os

import torch

from seqcells.lab.model_config import check_setting
from seqcells.lab.text.batches import Batch
from seqcells.lab.training import processes
from seqcells.lab.training.config import TrainingConfig

GRAD_SCALER_DEVICES = ("cuda", "cpu")  # devices with torch.amp.GradScaler, which float16 needs


def device_of(config: TrainingConfig) -> torch.device:
    """Return the device that `training.device` names. Each process has its own GPU.

    Raises:
        ValueError: this machine does not have the device, or the device does not support
            `training.precision` or several processes.
    """
    available = torch.accelerator.is_available()  # torch 2.7 counts no devices without a driver
    accelerators = torch.accelerator.device_count() if available else 0
    kind = torch.accelerator.current_accelerator().type if accelerators else "cpu"
    automatic = "cuda" if kind == "cuda" else "cpu"  # other accelerators have no fused kernels
    device = torch.device(automatic if config.device == "auto" else config.device)
    key, got = "training.device", config.device
    names = "auto or cpu" if kind == "cpu" else f"auto, cpu or {kind}"
    expected = f"{names}, the devices of this machine"
    check_setting(device.type in ("cpu", kind), key, expected, got)
    supported = config.precision != "float16" or device.type in GRAD_SCALER_DEVICES
    expected = f"float32 or bfloat16 on {device.type}"
    check_setting(supported, "training.precision", expected, config.precision)
    if device.type == "cpu":
        return torch.device("cpu")
    rank = processes.local_rank()
    if rank is not None:
        check_setting(device.type == "cuda", key, "cpu or cuda for several processes", got)
        expected = "cuda for several processes, as each uses its own GPU"
        check_setting(device.index is None, key, expected, got)
        expected = f"at most {accelerators} processes on this machine, one for each GPU, or cpu"
        check_setting(rank < accelerators, key, expected, f"{got} in process {rank + 1}")
    index = (device.index or 0) if rank is None else rank
    expected = f"an index below {accelerators}, the number of devices of this machine"
    check_setting(index < accelerators, key, expected, got)
    return torch.device(device.type, index)


def check_threads(config: TrainingConfig) -> None:
    """Raise a ValueError if `training.threads` exceeds sixteen threads per core, at least 256.

    More threads than cores are slow but valid: runs from larger machines can be resumed. OpenMP
    ends the process without an error if it cannot start them.
    """
    cores = os.cpu_count() or 1
    most = max(16 * cores, 256)
    valid = config.threads is None or config.threads <= most
    expected = f"at most {most} on this machine, which has {cores} cores"
    check_setting(valid, "training.threads", expected, config.threads)


class Transfer:
    """Copies batches to a device, asynchronously on a separate stream if it is a GPU."""

    def __init__(self, device: torch.device):
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, batch: Batch) -> Batch:
        if self.stream is None:
            return batch.map(lambda part: part.to(self.device))
        with torch.cuda.stream(self.stream):
            moved = batch.map(
                lambda part: part.contiguous().pin_memory().to(self.device, non_blocking=True)
            )
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(self.stream)
        moved.map(lambda part: part.record_stream(current))
        return moved
