"""A call as the kernels see it: its sizes, its rows, and what they are compiled for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqcells.kernels.call import Call, time_stride
from seqcells.kernels.triton import planning
from seqcells.kernels.triton.functors import functor_of
from seqcells.kernels.triton.machine import interprets
from seqcells.kernels.triton.planning import Plan, in_two, precision
from seqcells.sequences import packed_lengths

# Calls, by `Shape.key`, and plans that need more than that, as compiling them has shown.
TOO_LARGE: set[tuple[object, Plan]] = set()


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
            lengths = packed_lengths(sizes)
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
        self.functor = functor = functor_of(call.kernel)
        self.kernel = kernel = call.kernel
        self.dtype = call.inputs.dtype
        self.batch, self.H = call.state[-1].shape
        self.width = call.state[0].shape[1]
        self.steps = (call.inputs if call.batch_sizes is None else call.batch_sizes).shape[0]
        self.cells = call.inputs.shape[:-1].numel()  # N: steps of all rows, with their padding
        self.key = call.kernel, self.H, self.width, self.dtype, call.inputs.device
        plans = planning.plans(call, functor)
        self.plan = next(plan for plan in plans if (self.key, plan) not in TOO_LARGE)
        self.given_rows = Rows.of(call)
        # What is kept beside the functor's values, in blocks of H: where it stands, or -1.
        zoned, projects = bool(call.zone), call.weight_hr is not None
        self.blocks = kernel.saved + (kernel.zoned() if zoned else 0) + projects
        self.made = kernel.saved if zoned and kernel.reads_after else -1
        self.blended = kernel.saved + kernel.reads_after if zoned and kernel.states > 1 else -1
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
        return dense(found), tuple(map(time_stride, found))

    def weights(self) -> tuple[Tensor | None, ...]:
        """The recurrent weights, in single precision in two parts, and the other weights."""
        call = self.call
        weight: Any
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
        functor, kernel, plan = self.functor, self.kernel, self.plan
        return {
            "H": self.H,
            "WIDTH": self.width,
            "GATES": kernel.gates,
            "SLOTS": functor.slots.total,
            "HIDDENS": functor.slots.hidden,
            "HIDDEN_AT": len(functor.slots.separate),
            "EARLIER": functor.earlier,
            "LATER": functor.later,
            "STATES": kernel.states,
            "PARAMETERS": kernel.parameters,
            "MADE": self.made,
            "BLOCKS": self.blocks,
            "KEPT": self.blocks * self.H + kernel.rows,
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
