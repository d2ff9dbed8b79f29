"""Reuse of large buffers for saved values.

The C library returns large blocks to the system when they are freed. The next training step then
waits for the system to clear the same memory.
"""

from __future__ import annotations

import math
import mmap
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

LARGE = 32 << 20  # bytes; the C library itself reuses smaller blocks
KEPT = 256 << 20  # most bytes of free buffers

_free: list[mmap.mmap] = []  # the one freed last comes last


def empty(like: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return an uninitialised tensor, in a free buffer if it is large."""
    count = math.prod(shape)
    bytes_needed = count * dtype.itemsize
    if not LARGE < bytes_needed <= KEPT or not _is_plain(like):
        return like.new_empty(shape, dtype=dtype)
    memory = _take(bytes_needed)
    view = memoryview(memory)
    weakref.finalize(view, _give_back, memory).atexit = False
    return torch.frombuffer(view, dtype=dtype, count=count).view(*shape)


def _is_plain(tensor: Tensor) -> bool:
    """Return whether this is a tensor with values on the CPU."""
    return type(tensor) is Tensor and tensor.is_cpu and not torch.compiler.is_compiling()


# No lock: the collector may free a tensor, and so call `_give_back`, at any line of `_take`, and a
# fork could copy a lock that another thread holds. Single operations of lists are atomic.


def _take(size: int) -> mmap.mmap:
    """Return a free buffer of this size or up to a quarter larger, or a new one."""
    for memory in reversed(tuple(_free)):
        if size <= len(memory) <= size + size // 4:
            try:
                _free.remove(memory)
            except ValueError:  # another thread took it
                continue
            return memory
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def _give_back(memory: mmap.mmap) -> None:
    """Keep a buffer whose tensor has been freed, and drop the oldest ones beyond `KEPT`."""
    _free.append(memory)
    while sum(map(len, tuple(_free))) > KEPT:
        del _free[:1]
