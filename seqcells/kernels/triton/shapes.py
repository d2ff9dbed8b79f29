"""What a call is to the kernels: its sizes, its rows, and how its recurrent product is made."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqcells.kernels.call import Call
from seqcells.kernels.catalogue import Kind, kind_of
from seqcells.kernels.triton import interprets
from seqcells.kernels.triton.functors import Functor, functor_of

# Sizes that were chosen by timing on an H100 (benchmarks/RESULTS.md).
IN_MEMORY = 256  # most units whose weights one program reads at each step, alone with its rows
STAGE = 64 << 10  # bytes of weights that are read ahead at once
BESIDE = 80 << 10  # bytes of shared memory that a program needs beside the weights of all units
BESIDE_SLICE = 16 << 10  # and beside the weights of a slice and the state that it reads
SLICE = 16  # units of a slice
SPLIT_FROM = 4 * SLICE  # units: fewer are faster in one program, without waiting
MOST_ROWS = 64  # of the batch, for a program with a slice of units

# Calls, by `Shape.key`, and plans that need more than that, as compiling them has shown.
TOO_LARGE: set[tuple[object, Plan]] = set()


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


def plans(call: Call, functor: Functor, kind: Kind) -> Iterator[Plan]:
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
        yield Plan("none", *_elementwise(units, kind.whole_rows))
        return
    entangled = bool(functor.late) or projects
    # Means over whole rows need programs that run side by side, which an interpreter's do not.
    impossible = entangled or torch.version.hip or (kind.whole_rows and interprets())
    slices = [] if impossible else [*_slices(call, count)]
    if sliced := H >= SPLIT_FROM and not kind.whole_rows:
        yield from slices
    factors = 2 if in_two(dtype) else 1
    size = (count + projects) * units * wide * dtype.itemsize * factors
    if size + BESIDE <= shared_memory(device):
        yield Plan("resident", 16, units, wide, wide, 16, 8 if size > STAGE else 4)
    if not sliced:
        yield from slices
    if max(units, wide) <= IN_MEMORY or entangled:
        chunk = STAGE // (count * units * dtype.itemsize)
        warps = 16 if kind.whole_rows and units > 128 else 8  # of many values, half as many each
        chunk = min(max(_power_of_two(chunk + 1) // 2, 16), 64)
        yield Plan("memory", 16, units, wide, wide, chunk, warps)
    if not entangled:
        yield Plan("given", *_elementwise(units, kind.whole_rows))


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
    return torch.cuda.get_device_properties(device).shared_memory_per_block_optin


@functools.cache
def multiprocessors(device: torch.device) -> int:
    """How many programs can run at once, one on each."""
    if device.type != "cuda":
        return 132
    return torch.cuda.get_device_properties(device).multi_processor_count


def _power_of_two(number: int, least: int = 16) -> int:
    return max(least, 1 << (number - 1).bit_length())


class Rows(NamedTuple):
    """The batch as the kernels walk through it: the longest rows together, each as far as it goes.

    `starts` says where the steps begin of a sequence that is packed.
    """

    order: Tensor | None
    lengths: Tensor | None
    starts: Tensor | None
    resets: Tensor | None

    @classmethod
    def of(cls, call: Call) -> Rows:
        resets = None if call.resets is None else call.resets.contiguous().view(torch.uint8)
        device = call.inputs.device
        if call.batch_sizes is not None:
            sizes = call.batch_sizes.to(torch.int64)
            lengths = (sizes.unsqueeze(1) > torch.arange(call.state[0].shape[0])).sum(0)
            starts = sizes.cumsum(0) - sizes
            lengths, starts = (part.to(device, non_blocking=True) for part in (lengths, starts))
            return cls(None, lengths, starts, resets)
        if call.lengths is None:
            return cls(None, None, None, resets)
        lengths = call.lengths.to(torch.int64).clamp(0, call.inputs.shape[0])
        return cls(lengths.argsort(descending=True), lengths, None, resets)


class Shape:
    """The sizes of a call by the kernels' names for them."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.functor = functor = functor_of(call.cell)
        self.kind = kind = kind_of(call.cell)
        self.dtype = call.inputs.dtype
        self.batch, self.H = call.state[-1].shape
        self.width = call.state[0].shape[1]
        self.steps = (call.inputs if call.batch_sizes is None else call.batch_sizes).shape[0]
        self.cells = call.inputs.shape[:-1].numel()  # N: steps of all rows, with their padding
        self.key = call.cell, self.H, self.width, self.dtype, call.inputs.device
        self.plan = next(
            plan for plan in plans(call, functor, kind) if (self.key, plan) not in TOO_LARGE
        )
        self.given_rows = Rows.of(call)
        # What is kept beside the functor's values, in blocks of H: where it stands, or -1.
        zoned, projects = bool(call.zone), call.weight_hr is not None
        self.blocks = kind.kept + (kind.zoned() if zoned else 0) + projects
        self.made = kind.kept if zoned and kind.reads_after else -1
        self.blended = kind.kept + kind.reads_after if zoned and kind.states > 1 else -1
        self.unprojected = self.blocks - 1 if projects else -1
        # Past a length nothing is written, and what is not written must not be read as a number.
        self.ragged = call.lengths is not None

    @property
    def wider(self) -> torch.dtype:
        """What sums and states are computed in."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    @property
    def stepwise(self) -> bool:
        """Whether each step is a launch of its own: others act in between, or cannot wait."""
        return self.plan.product == "given" or (self.plan.sliced and interprets())

    def room(self, *shape: int) -> Tensor:
        """For what holds something of each step: zeros past each length."""
        make = self.call.inputs.new_zeros if self.ragged else self.call.inputs.new_empty
        return make(*shape)

    def noise(self) -> tuple[tuple[Tensor | None, ...], tuple[int, ...]]:
        """Its tensors, and how far each goes on with every step."""
        found = (self.call.read, self.call.drop, *self.call.zone, None, None)[:4]
        steps = [0 if part is None or part.dim() < 3 else part.shape[1:].numel() for part in found]
        return dense(found), tuple(steps)

    def weights(self) -> tuple[Tensor | None, ...]:
        """The recurrent weights, in single precision in two parts, and the other weights."""
        call = self.call
        weight, *others = dense((call.weight_hh, call.bias_hh, call.weight_hr, call.parameters))
        if self.plan.product != "split" or not in_two(self.dtype):
            return weight, None, *others
        leading = (weight.view(torch.int32) & -8192).view(torch.float32)
        return leading, weight - leading, *others

    def exchange(self, *, memory: int = 0, sliced: int = 0, given: int = 0) -> Tensor:
        """Memory for what the recurrent product reads or computes, in numbers per row, by plan."""
        widths = {"memory": memory, "split": sliced, "streamed": sliced, "given": given}
        return self.call.inputs.new_zeros(self.batch, widths.get(self.plan.product, 0))

    def counters(self) -> Tensor | None:
        """Of each group of rows, how often its programs have published their slices."""
        if not self.plan.sliced:
            return None
        groups, _ = self.plan.grid(self.batch, self.H)
        return torch.zeros(groups, 32, dtype=torch.int32, device=self.call.inputs.device)

    def partials(self, way: int) -> Tensor | None:
        """Memory for sums over whole rows that programs exchange, forward (0) or backward (1)."""
        if not self.plan.sliced or not self.functor.means[way]:
            return None
        groups, slices = self.plan.grid(self.batch, self.H)
        size = groups * self.functor.means[way] * slices * self.plan.rows
        return torch.empty(size, dtype=self.wider, device=self.call.inputs.device)

    def constants(self) -> dict[str, Any]:
        """What both kernels are compiled for."""
        functor, kind, plan = self.functor, self.kind, self.plan
        return {
            "H": self.H,
            "WIDTH": self.width,
            "GATES": kind.gates,
            "SLOTS": functor.slots.count,
            "HIDDENS": functor.slots.hidden,
            "HIDDEN_AT": len(functor.slots.separate),
            "EARLIER": functor.earlier,
            "LATER": functor.later,
            "STATES": kind.states,
            "PARAMETERS": kind.parameters,
            "MADE": self.made,
            "BLOCKS": self.blocks,
            "KEPT": self.blocks * self.H + kind.rows,
            "REVERSE": self.call.reverse,
            "PRODUCT": plan.product,
            "PRECISION": precision(self.dtype, self.plan.product == "split"),
            "ROWS": plan.rows,
            "UNITS": plan.units,
            "WIDE": plan.wide,
            "WHOLE": plan.whole,
            "PARTS": plan.parts,
            "CHUNK": plan.chunk,
            "WAITS": not interprets(),
            "num_warps": plan.warps,
            "num_stages": plan.stages,
            "launch_cooperative_grid": plan.sliced,
        }


def dense(parts: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    return tuple(None if part is None else part.contiguous() for part in parts)


def in_two(dtype: torch.dtype) -> bool:
    """Whether factors are split in two for products: of single precision, without TF32."""
    if dtype != torch.float32 or torch.version.hip:
        return False
    allowed = torch.backends.cuda.matmul.fp32_precision
    if allowed == "none":  # nothing was said of products: what holds for everything
        allowed = torch.backends.fp32_precision
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
