"""Data-parallel training: one process, or several that each train on a shard of every batch.

`torchrun` starts several processes. Without it, collectives return their argument.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import distributed

from seqcells.lab.text.batches import Batch

T = TypeVar("T")


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the process group if `torchrun` started this process.

    NCCL reduces gradients on GPUs. Flags, metrics and objects are on the CPU and use Gloo, so that
    they do not synchronise with the GPU.
    """
    if local_rank() is None:
        yield
        return
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def local_rank() -> int | None:
    """Return this process's rank on this machine, or None for a single process."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    return int(os.environ["LOCAL_RANK"])


def is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def world_size() -> int:
    return distributed.get_world_size() if is_distributed() else 1


def rank() -> int:
    return distributed.get_rank() if is_distributed() else 0


def is_main() -> bool:
    """Return whether this process writes files and prints to the terminal."""
    return rank() == 0


def all_reduce_sum(values: Sequence[float]) -> list[float]:
    """Sum each value over all processes."""
    if not is_distributed():
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64)
    distributed.all_reduce(sums)
    return sums.tolist()


def any_process(flag: bool) -> bool:
    """Return whether the flag is set in any process, so that all leave a loop together."""
    return all_reduce_sum([flag])[0] > 0


def broadcast(value: Any) -> Any:
    """Return the main process's value in every process."""
    if not is_distributed():
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def on_main(action: Callable[[], T]) -> T:
    """Call `action` in the main process; return its result or raise its error in all processes."""
    result, error = None, None
    if is_main():
        try:
            result = action()
        except (ValueError, OSError) as problem:
            error = problem
    result, error = broadcast((result, error))
    if error is not None:
        raise error
    return result


def all_gather(value: Any) -> list[Any]:
    """Return the values of all processes, by rank, in every process."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def barrier() -> None:
    """Wait until all processes reach this call."""
    if is_distributed():
        distributed.barrier()


def shard(batch: Batch) -> tuple[Batch, float]:
    """Return this process's shard of a batch and its weight.

    An empty shard is replaced by one example of weight zero.
    """
    part = batch.part(rank(), world_size())
    if len(part.lengths):
        return part, 1.0
    return batch.part(0, len(batch.lengths)), 0.0
