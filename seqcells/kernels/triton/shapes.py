"""What a call is to the kernels: its sizes, its rows, and how its recurrent product is made."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqcells.kernels.call import Call
from seqcells.kernels.catalogue import Kind, kind_of
from seqcells.kernels.triton import interprets
from seqcells.kernels.triton.functors import Functor, functor_of

# The most units whose weights a program reads again at each step, alone with its rows.
IN_MEMORY = 256
STAGE = 64 << 10  # bytes of weights that are read ahead at once
BESIDE = 80 << 10  # bytes of shared memory that a program needs beside the weights that it keeps

# Calls, by `Shape.key`, that need more than that, as compiling them has shown.
TOO_LARGE: set[object] = set()


class Plan(NamedTuple):
    """How the recurrent product is made (see recurrence.py), and in what tiles."""

    product: str
    rows: int
    units: int
    wide: int
    chunk: int
    warps: int

    @classmethod
    def of(
        cls, functor: Functor, kind: Kind, H: int, width: int, inputs: Tensor, resident: bool
    ) -> Plan:
        """By sizes alone: of what the weights take up on one multiprocessor.

        Where its shared memory holds them they stay there. Larger ones are read at each step, from
        the second-level cache; beyond `IN_MEMORY` units one multiprocessor would read for too long,
        and all share a product of the caller's. Cells with a product between their gates, or
        with a projection, have two products that depend on each other, which stay in the kernel.
        """
        units, wide = _power_of_two(H), _power_of_two(width)
        count, projects = len(functor.slots.hidden), width != H
        if not count:
            return cls("none", *_elementwise(units, kind.whole_rows))
        size = (count + projects) * units * wide * inputs.element_size()
        split = 2 if precision(inputs.dtype) == "tf32x3" else 1
        if resident and size * split + BESIDE <= shared_memory(inputs.device):
            return cls("resident", 16, units, wide, 16, 8 if size * split > STAGE else 4)
        if max(units, wide) > IN_MEMORY and not functor.late and not projects:
            return cls("given", *_elementwise(units, kind.whole_rows))
        chunk = STAGE // (count * units * inputs.element_size())
        warps = 16 if kind.whole_rows and units > 128 else 8  # of many values, half as many each
        chunk = min(max(_power_of_two(chunk + 1) // 2, 16), 64)
        return cls("memory", 16, units, wide, chunk, warps)

    def grid(self, batch: int, units: int) -> tuple[int, int]:
        return -(-batch // self.rows), -(-units // self.units)


def _elementwise(units: int, whole_rows: bool) -> tuple[int, int, int, int, int]:
    if not whole_rows:
        units = min(units, 128)
    return max(1024 // units, 1), units, units, 16, 4


@functools.cache
def shared_memory(device: torch.device) -> int:
    """Of one multiprocessor, in bytes; of a large one where there is none."""
    if device.type != "cuda":
        return 227 << 10
    return torch.cuda.get_device_properties(device).shared_memory_per_block_optin


def _power_of_two(number: int) -> int:
    return max(16, 1 << (number - 1).bit_length())


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
        resident = self.key not in TOO_LARGE
        self.plan = Plan.of(functor, kind, self.H, self.width, call.inputs, resident)
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
        call = self.call
        return dense((call.weight_hh, call.bias_hh, call.weight_hr, call.parameters))

    def exchange(self, *, memory: int = 0, given: int = 0) -> Tensor:
        """Room for what the recurrent product reads or makes, in numbers a row, by its kind."""
        width = {"memory": memory, "given": given}.get(self.plan.product, 0)
        return self.call.inputs.new_zeros(self.batch, width)

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
            "PRECISION": precision(self.dtype),
            "ROWS": plan.rows,
            "UNITS": plan.units,
            "WIDE": plan.wide,
            "CHUNK": plan.chunk,
            "num_warps": plan.warps,
            "num_stages": 2,
        }


def dense(parts: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    return tuple(None if part is None else part.contiguous() for part in parts)


def precision(dtype: torch.dtype) -> str:
    """How products of single precision are made: as PyTorch's own, or to its last digits.

    Where TF32 is not allowed each factor is split in two, and three products of these make one.
    """
    if interprets():
        return "widened" if dtype == torch.bfloat16 else "ieee"
    if dtype != torch.float32 or torch.version.hip:
        return "ieee"
    allowed = torch.backends.cuda.matmul.fp32_precision
    if allowed == "none":  # nothing was said of products: what holds for everything
        allowed = torch.backends.fp32_precision
    return "tf32" if allowed == "tf32" else "tf32x3"
