"""Choose how a call's recurrent product is computed, and the tile sizes."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from seqcells.compatibility import allows_tf32
from seqcells.kernels.call import Call
from seqcells.kernels.triton.availability import interprets
from seqcells.kernels.triton.functors import Functor

# Chosen by timing on an H100 (benchmarks/RESULTS.md).
MAX_MEMORY_UNITS = 256  # largest size of the plan "memory", unless no other plan is possible
STAGE_BYTES = 64 << 10  # weights prefetched at once
RESERVED_BYTES = 80 << 10  # shared memory of a program with all units, besides the weights
SLICE_RESERVED_BYTES = 16 << 10  # same for a slice, besides its weights and the published state
SLICE_UNITS = 16
MIN_SPLIT_UNITS = 4 * SLICE_UNITS  # fewer units are faster in one program, which does not wait
MAX_SLICE_ROWS = 64


class Plan(NamedTuple):
    """A way to compute the recurrent product, and its tile sizes.

    Attributes:
        product: `PRODUCT` of forward_kernel.py.
        rows: rows of the batch per program.
        units: units per program.
        wide: units of the (projected) hidden state per program.
        whole: all units, rounded up to a power of two.
        chunk: units multiplied at a time.
        parts: number of independent partial sums in the backward product of a slice.
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
        """Whether each program computes a slice of the units, and publishes the state."""
        return self.product in ("split", "streamed")

    def grid(self, batch: int, units: int) -> tuple[int, int]:
        """Return the number of programs over the rows and over the units."""
        return -(-batch // self.rows), -(-units // self.units)


def plans(call: Call, functor: Functor) -> Iterator[Plan]:
    """Yield the plans for a call, the fastest first. They depend on its sizes only.

    - By default, weights are divided among all multiprocessors. These exchange the state at each
      step, and partial sums if the cell computes means over whole rows.
    - Weights of few units, or of a cell with means, stay in the shared memory of one multiprocessor
      if they fit.
    - Cells with late products or a projection have several products, each dependent on the one
      before. Weights that do not fit into shared memory are read at each step, from the L2 cache.
    - Other weights are read at each step up to `MAX_MEMORY_UNITS` units. For more units, the caller
      computes the product.
    """
    H, width = call.state[-1].shape[1], call.state[0].shape[1]
    device, dtype = call.inputs.device, call.inputs.dtype
    units, wide = _power_of_two(H), _power_of_two(width)
    count, projects = len(functor.slots.hidden), width != H
    if not count:
        yield Plan("none", *_elementwise(units, call.kernel.whole_rows))
        return
    dependent_products = functor.stages > 0 or projects
    # Means over whole rows need programs that run concurrently. The interpreter runs them in turn.
    sequential = call.kernel.whole_rows and interprets()
    unsliced = dependent_products or torch.version.hip or sequential
    slices = [] if unsliced else [*_slices(call, count)]
    if sliced := H >= MIN_SPLIT_UNITS and not call.kernel.whole_rows:
        yield from slices
    factors = 2 if splits_factors(dtype) else 1
    size = (count + projects) * units * wide * dtype.itemsize * factors
    if size + RESERVED_BYTES <= shared_memory(device):
        yield Plan("resident", 16, units, wide, wide, 16, 8 if size > STAGE_BYTES else 4)
    if not sliced:
        yield from slices
    if max(units, wide) <= MAX_MEMORY_UNITS or dependent_products:
        chunk = STAGE_BYTES // (count * units * dtype.itemsize)
        # Cells with means hold many values; with 16 warps, each warp holds half as many.
        warps = 16 if call.kernel.whole_rows and units > 128 else 8
        chunk = min(max(_power_of_two(chunk + 1) // 2, 16), 64)
        yield Plan("memory", 16, units, wide, wide, chunk, warps)
    if not dependent_products:
        yield Plan("external", *_elementwise(units, call.kernel.whole_rows))


def _slices(call: Call, count: int) -> Iterator[Plan]:
    """Yield plans with slices of units that run concurrently, each on one multiprocessor."""
    batch, H = call.state[-1].shape
    device, size = call.inputs.device, call.inputs.dtype.itemsize
    groups = multiprocessors(device) // -(-H // SLICE_UNITS)
    rows = _power_of_two(-(-batch // groups)) if groups else batch
    if not groups or rows > MAX_SLICE_ROWS:
        return
    whole, gates = _power_of_two(H), _power_of_two(count, 1)
    sums = gates * whole
    weights = SLICE_UNITS * sums * size * (2 if splits_factors(call.inputs.dtype) else 1)
    if weights + rows * sums * size + SLICE_RESERVED_BYTES <= shared_memory(device):
        parts = min(4, sums // 16)
        chunk = min(256 // size, whole, sums // parts)
        yield Plan("split", rows, SLICE_UNITS, SLICE_UNITS, whole, chunk, 4, parts)
    few = size == 2 and rows == 32
    parts = min(8 if few else 4, sums // 16)
    chunk = min(128 // size, whole, sums // parts)
    yield Plan("streamed", rows, SLICE_UNITS, SLICE_UNITS, whole, chunk, 8 if few else 4, parts, 3)


def _elementwise(units: int, whole_rows: bool) -> tuple[int, int, int, int, int, int]:
    if not whole_rows:
        units = min(units, 128)
    return max(1024 // units, 1), units, units, units, 16, 4


@functools.cache
def shared_memory(device: torch.device) -> int:
    """Return the bytes of shared memory per multiprocessor; those of an H100 without a GPU."""
    if device.type != "cuda":
        return 227 << 10
    properties: Any = torch.cuda.get_device_properties(device)
    return properties.shared_memory_per_block_optin


@functools.cache
def multiprocessors(device: torch.device) -> int:
    """Return the number of multiprocessors; that of an H100 without a GPU."""
    if device.type != "cuda":
        return 132
    return torch.cuda.get_device_properties(device).multi_processor_count


def _power_of_two(number: int, least: int = 16) -> int:
    return max(least, 1 << (number - 1).bit_length())


def splits_factors(dtype: torch.dtype) -> bool:
    """Return whether products split each factor in two: in float32 if TF32 is not allowed."""
    if dtype != torch.float32 or torch.version.hip:
        return False
    return not allows_tf32()


def precision(dtype: torch.dtype, are_split: bool) -> str:
    """Return the input precision of `tl.dot`.

    Without TF32, three products of split factors replace one. Triton does this itself ("tf32x3")
    unless the factors `are_split` already.
    """
    if interprets():
        return "widened" if dtype == torch.bfloat16 else "ieee"
    if dtype != torch.float32 or torch.version.hip:
        return "ieee"
    return "tf32x3" if splits_factors(dtype) and not are_split else "tf32"
