"""Where training computes."""

import torch

from seqcells.lab.model_config import check_setting
from seqcells.lab.text.batches import Batch
from seqcells.lab.training import processes
from seqcells.lab.training.config import TrainingConfig

SCALING = ("cuda", "cpu")  # where torch scales losses, without which float16 loses small gradients


def device_of(config: TrainingConfig) -> torch.device:
    """The device that `training.device` names. Of several processes each has a GPU of its own.

    Raises:
        ValueError: this machine has no such device, or it cannot compute so.
    """
    accelerators = torch.accelerator.device_count()
    kind = torch.accelerator.current_accelerator().type if accelerators else "cpu"
    automatic = "cuda" if kind == "cuda" else "cpu"  # no other one has kernels of ours
    device = torch.device(automatic if config.device == "auto" else config.device)
    key, got = "training.device", config.device
    there = "cpu, the only one here" if kind == "cpu" else f"cpu or {kind}, which are here"
    check_setting(device.type in ("cpu", kind), key, f"auto, or {there}", got)
    scaled = config.precision != "float16" or device.type in SCALING
    expected = f"float32 or bfloat16 on {device.type}"
    check_setting(scaled, "training.precision", expected, config.precision)
    if device.type == "cpu":
        return torch.device("cpu")
    place = processes.place()
    if place is not None:
        check_setting(device.type == "cuda", key, "cpu or cuda for several processes", got)
        expected = "cuda for several processes, each of which takes a GPU of its own"
        check_setting(device.index is None, key, expected, got)
        expected = f"at most {accelerators} processes on this machine, one for each GPU, or cpu"
        check_setting(place < accelerators, key, expected, f"{got} in process {place + 1}")
    index = (device.index or 0) if place is None else place
    expected = f"a number below {accelerators}, that of the devices here"
    check_setting(index < accelerators, key, expected, got)
    return torch.device(device.type, index)


class Transfer:
    """Brings batches to a device; to a GPU while it still computes, and nothing waits for it."""

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
        present = torch.cuda.current_stream(self.device)
        present.wait_stream(self.stream)
        moved.map(lambda part: part.record_stream(present))
        return moved
