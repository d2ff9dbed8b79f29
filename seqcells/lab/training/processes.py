"""One process, or several that train one model together, each on its share of every batch.

`torchrun` starts them and tells each its number; without it there is one, and all of this is free.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed

from seqcells.lab.text.batches import Batch


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Meet the other processes that `torchrun` has started, if it has.

    Gradients on GPUs are reduced by NCCL. Flags, figures and objects are on the CPU and go by Gloo,
    so that no GPU is waited for.
    """
    if place() is None:
        yield
        return
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def place() -> int | None:
    """This process among those that `torchrun` started on this machine, from 0; None if alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    return int(os.environ["LOCAL_RANK"])


def several() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def count() -> int:
    return distributed.get_world_size() if several() else 1


def number() -> int:
    """This process among all, from 0."""
    return distributed.get_rank() if several() else 0


def writes() -> bool:
    """Whether this is the one that writes files and speaks to the user."""
    return number() == 0


def total(values: Sequence[float]) -> list[float]:
    """Each value, summed over all processes."""
    if not several():
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64)
    distributed.all_reduce(sums)
    return sums.tolist()


def any_of(flag: bool) -> bool:
    """Whether the flag is set in any process: all must leave a loop together."""
    return total([flag])[0] > 0


def from_writer(value: Any) -> Any:
    """The writer's value, everywhere."""
    if not several():
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def gathered(value: Any) -> list[Any]:
    """Every process's value, in order, everywhere."""
    if not several():
        return [value]
    values: list[Any] = [None] * count()
    distributed.all_gather_object(values, value)
    return values


def wait() -> None:
    """Until all processes are here."""
    if several():
        distributed.barrier()


def own_part(batch: Batch) -> tuple[Batch, float]:
    """This process's part of a batch; where there is none, an example of weight zero."""
    part = batch.part(number(), count())
    if len(part.lengths):
        return part, 1.0
    return batch.part(0, len(batch.lengths)), 0.0
