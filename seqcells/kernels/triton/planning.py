"""Plans: how a call's recurrent product is computed, and in what tiles."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from seqcells.kernels.call import Call
from seqcells.kernels.triton.functors import Functor
from seqcells.kernels.triton.machine import interprets

# Sizes that were chosen by timing on an H100 (benchmarks/RESULTS.md).
IN_MEMORY = 256  # most units whose weights one program reads at each step, alone with its rows
STAGE = 64 << 10  # bytes of weights that are read ahead at once
BESIDE = 80 << 10  # bytes of shared memory that a program needs beside the weights of all units
BESIDE_SLICE = 16 << 10  # and beside the weights of a slice and the state that it reads
SLICE = 16  # units of a slice
SPLIT_FROM = 4 * SLICE  # units: fewer are faster in one program, without waiting
MOST_ROWS = 64  # of the batch, for a program with a slice of units


class Plan(NamedTuple):
    """How the recurrent product is computed (see recurrence.py), and in what tiles.

    A program has `rows` of the batch and `units`, of the hidden state `wide`. It multiplies by
    `chunk` units at a time; in slices, out of the `whole`, a backward sum in `parts`.
    """

    product: str
    rows: int
    units: int
    wide: int
    whole: int
    chunk: int
    warps: int
    parts: int = 1
    stages: int = 2

    @property
    def sliced(self) -> bool:
        """Whether programs have slices of the units, and exchange the state."""
        return self.product in ("split", "streamed")

    def grid(self, batch: int, units: int) -> tuple[int, int]:
        return -(-batch // self.rows), -(-units // self.units)


def plans(call: Call, functor: Functor) -> Iterator[Plan]:
    """The plans that suit a call, by its sizes alone, the fastest first.

    Weights are split over all multiprocessors, which exchange the state at each step, and the sums
    of cells that take means over whole rows. Those of few units stay in the shared memory of one
    multiprocessor, as do those of cells with means where they fit. Cells with a product between
    their gates or with a projection have two products that depend on each other: where their
    weights are too large for one multiprocessor they are read at each step, from the second-level
    cache, up to `IN_MEMORY` units; beyond, the caller computes the product.
    """
    H, width = call.state[-1].shape[1], call.state[0].shape[1]
    device, dtype = call.inputs.device, call.inputs.dtype
    units, wide = _power_of_two(H), _power_of_two(width)
    count, projects = len(functor.slots.hidden), width != H
    if not count:
        yield Plan("none", *_elementwise(units, call.kernel.whole_rows))
        return
    entangled = bool(functor.late) or projects
    # Means over whole rows need programs that run side by side, which an interpreter's do not.
    impossible = entangled or torch.version.hip or (call.kernel.whole_rows and interprets())
    slices = [] if impossible else [*_slices(call, count)]
    if sliced := H >= SPLIT_FROM and not call.kernel.whole_rows:
        yield from slices
    factors = 2 if in_two(dtype) else 1
    size = (count + projects) * units * wide * dtype.itemsize * factors
    if size + BESIDE <= shared_memory(device):
        yield Plan("resident", 16, units, wide, wide, 16, 8 if size > STAGE else 4)
    if not sliced:
        yield from slices
    if max(units, wide) <= IN_MEMORY or entangled:
        chunk = STAGE // (count * units * dtype.itemsize)
        warps = (
            16 if call.kernel.whole_rows and units > 128 else 8
        )  # of many values, half as many each
        chunk = min(max(_power_of_two(chunk + 1) // 2, 16), 64)
        yield Plan("memory", 16, units, wide, wide, chunk, warps)
    if not entangled:
        yield Plan("given", *_elementwise(units, call.kernel.whole_rows))


def _slices(call: Call, count: int) -> Iterator[Plan]:
    """Slices of units and rows that all run at once, each on a multiprocessor of its own."""
    batch, H = call.state[-1].shape
    device, size = call.inputs.device, call.inputs.dtype.itemsize
    groups = multiprocessors(device) // -(-H // SLICE)
    rows = _power_of_two(-(-batch // groups)) if groups else batch
    if not groups or rows > MOST_ROWS:
        return
    whole, gates = _power_of_two(H), _power_of_two(count, 1)
    sums = gates * whole
    weights = SLICE * sums * size * (2 if in_two(call.inputs.dtype) else 1)
    if weights + rows * sums * size + BESIDE_SLICE <= shared_memory(device):
        parts = min(4, sums // 16)
        chunk = min(256 // size, whole, sums // parts)
        yield Plan("split", rows, SLICE, SLICE, whole, chunk, 4, parts)
    few = size == 2 and rows == 32
    parts = min(8 if few else 4, sums // 16)
    chunk = min(128 // size, whole, sums // parts)
    yield Plan("streamed", rows, SLICE, SLICE, whole, chunk, 8 if few else 4, parts, 3)


def _elementwise(units: int, whole_rows: bool) -> tuple[int, int, int, int, int, int]:
    if not whole_rows:
        units = min(units, 128)
    return max(1024 // units, 1), units, units, units, 16, 4


@functools.cache
def shared_memory(device: torch.device) -> int:
    """Of one multiprocessor, in bytes; of a large one where there is none."""
    if device.type != "cuda":
        return 227 << 10
    properties: Any = torch.cuda.get_device_properties(device)
    return properties.shared_memory_per_block_optin


@functools.cache
def multiprocessors(device: torch.device) -> int:
    """How many programs can run at once, one on each."""
    if device.type != "cuda":
        return 132
    return torch.cuda.get_device_properties(device).multi_processor_count


def _power_of_two(number: int, least: int = 16) -> int:
    return max(least, 1 << (number - 1).bit_length())


def in_two(dtype: torch.dtype) -> bool:
    """Whether factors are split in two for products: of single precision, without TF32."""
    if dtype != torch.float32 or torch.version.hip:
        return False
    backends: Any = torch.backends
    allowed = backends.cuda.matmul.fp32_precision
    if allowed == "none":  # nothing was said of products: what holds for everything
        allowed = backends.fp32_precision
    return allowed != "tf32"


def precision(dtype: torch.dtype, are_split: bool) -> str:
    """How a product of tiles is computed: in TF32, or to its last digits.

    Where TF32 is not allowed each factor is split in two, and three products of these make one.
    Triton does so itself unless the factors `are_split` already.
    """
    if interprets():
        return "widened" if dtype == torch.bfloat16 else "ieee"
    if dtype != torch.float32 or torch.version.hip:
        return "ieee"
    return "tf32x3" if in_two(dtype) and not are_split else "tf32"
