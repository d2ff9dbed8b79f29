"""Prepare the arguments, buffers and compile-time constants of the kernels for a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqcells.kernels.call import Call, time_stride
from seqcells.kernels.triton import planning
from seqcells.kernels.triton.availability import interprets
from seqcells.kernels.triton.functors import functor_of
from seqcells.kernels.triton.planning import Plan, precision, splits_factors
from seqcells.sequences import packed_lengths

# Pairs of `Problem.key` and a plan that exceeded the shared memory when it was compiled.
OVERSIZED_PLANS: set[tuple[object, Plan]] = set()


class Rows(NamedTuple):
    """Row order, lengths and resets of a batch.

    Rows are sorted by decreasing length, so that a program's rows have similar lengths. `starts` is
    the index of the first row of each packed step.
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


class Problem:
    """A call as the kernels see it: sizes, plan, layout of saved values, buffers."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.functor = functor = functor_of(call.kernel)
        self.kernel = kernel = call.kernel
        self.dtype = call.inputs.dtype
        self.batch, self.H = call.state[-1].shape
        self.width = call.state[0].shape[1]
        self.steps = (call.inputs if call.batch_sizes is None else call.batch_sizes).shape[0]
        self.cells = call.inputs.shape[
            :-1
        ].numel()  # N: number of steps of all rows, padding included
        self.key = call.kernel, self.H, self.width, self.dtype, call.inputs.device
        plans = planning.plans(call, functor)
        self.plan = next(plan for plan in plans if (self.key, plan) not in OVERSIZED_PLANS)
        self.row_info = Rows.of(call)
        # Indices of the blocks of H that are saved in addition to the functor's values, or -1.
        zoned, projects = bool(call.zone), call.weight_hr is not None
        self.blocks = kernel.saved + (kernel.zoneout_saved() if zoned else 0) + projects
        self.before_zoneout = kernel.saved if zoned and kernel.reads_new_hidden else -1
        # Indices of the blocks with the state's parts after the first.
        self.saved_states = functor.saved_states
        if zoned:
            first = kernel.saved + kernel.reads_new_hidden
            self.saved_states = tuple(range(first, first + kernel.states - 1))
        self.unprojected = self.blocks - 1 if projects else -1
        # Steps past a row's length are not written, so buffers must start as zeros.
        self.ragged = call.lengths is not None

    @property
    def accumulate_dtype(self) -> torch.dtype:
        """The dtype of sums and states in the kernels."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    @property
    def stepwise(self) -> bool:
        """Whether each step is a separate launch: for external products, or in the interpreter."""
        return self.plan.product == "external" or (self.plan.sliced and interprets())

    def allocate_steps(self, *shape: int) -> Tensor:
        """Allocate a buffer over steps, zero past each row's length."""
        make = self.call.inputs.new_zeros if self.ragged else self.call.inputs.new_empty
        return make(*shape)

    def per_part(self, tensors: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
        """Return contiguous tensors, one per part of the state, or that many None without any."""
        return dense(tensors or [None] * self.kernel.states)

    def noise(self) -> tuple[tuple[Tensor | None, ...], tuple[int, ...]]:
        """Return the noise tensors `read`, `drop` and of zoneout, and their strides in time."""
        noise = (self.call.read, self.call.drop, *self.per_part(self.call.zone))
        return dense(noise), tuple(map(time_stride, noise))

    def weights(self) -> tuple[Tensor | None, ...]:
        """Return the recurrent weights, their low part if factors are split, and other weights."""
        call = self.call
        weight: Any
        weight, *others = dense((call.weight_hh, call.bias_hh, call.weight_hr, call.parameters))
        if self.plan.product != "split" or not splits_factors(self.dtype):
            return weight, None, *others
        leading = (weight.view(torch.int32) & -8192).view(torch.float32)
        return leading, weight - leading, *others

    def exchange(self, *, memory: int = 0, sliced: int = 0, external: int = 0) -> Tensor:
        """Allocate the exchange buffer. Arguments: numbers per row for each kind of plan."""
        widths = {"memory": memory, "split": sliced, "streamed": sliced, "external": external}
        return self.call.inputs.new_zeros(self.batch, widths.get(self.plan.product, 0))

    def counters(self) -> Tensor | None:
        """Allocate the counters of published slices, one per group of rows."""
        if not self.plan.sliced:
            return None
        groups, _ = self.plan.grid(self.batch, self.H)
        return torch.zeros(groups, 32, dtype=torch.int32, device=self.call.inputs.device)

    def partials(self, direction: int) -> Tensor | None:
        """Allocate the buffer of partial sums over rows, forward (0) or backward (1)."""
        if not self.plan.sliced or not self.functor.means[direction]:
            return None
        groups, slices = self.plan.grid(self.batch, self.H)
        size = groups * self.functor.means[direction] * slices * self.plan.rows
        return torch.empty(size, dtype=self.accumulate_dtype, device=self.call.inputs.device)

    def constants(self) -> dict[str, Any]:
        """Return the compile-time constants that both kernels share."""
        functor, kernel, plan = self.functor, self.kernel, self.plan
        hidden_at = functor.slots.total - len(functor.slots.hidden)
        products = functor.slots.ranges()
        return {
            "H": self.H,
            "WIDTH": self.width,
            "GATES": kernel.gates,
            "SLOTS": functor.slots.total,
            "HIDDENS": functor.slots.hidden,
            "HIDDEN_AT": hidden_at,
            "FROM": tuple(first - hidden_at for first, _ in products),
            "COUNT": tuple(count for _, count in products),
            "PARAMETERS": kernel.parameters,
            "SAVED_STATES": self.saved_states,
            "BEFORE_ZONEOUT": self.before_zoneout,
            "BLOCKS": self.blocks,
            "SAVED_WIDTH": self.blocks * self.H + kernel.rows,
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
    """Return contiguous tensors, with None in place."""
    return tuple(None if part is None else part.contiguous() for part in parts)
