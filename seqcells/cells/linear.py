"""Cells whose next state is linear in the last one, so that time can be taken at once."""

from __future__ import annotations

from torch import Tensor

from seqcells.cells.base import GatedCell, Weights
from seqcells.cells.checks import replaced
from seqcells.noise import Noise, drop_of, kept
from seqcells.state import State


class LinearCell(GatedCell):
    """A cell `h = a * h' + b` whose a and b depend on the input alone.

    Such a cell names its `gates` and writes `coefficients` in place of `activate`::

        class Average(LinearCell):
            gates = ("keep", "candidate")

            def coefficients(self, from_input):
                keep, candidate = from_input.chunk(2, dim=-1)
                keep = keep.sigmoid()
                return (keep, (1 - keep) * candidate), (keep, candidate)

    There is no `weight_hh` and one bias, `bias_ih`. Over time, all coefficients are computed at
    once and the states by a scan (`seqcells/scan.py`): O(log T) operations in place of T steps. A
    subclass with an `activate`, `step` or `output` of its own runs step by step. The candidate,
    for `RecurrentDropout`, is b.

    Parameter count: `G*H*(I + 1)`.
    """

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        return super().parameter_shapes() | {"weight_hh": None, "bias_hh": None}

    def coefficients(self, from_input: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, ...]]:
        """The pair a and b, and the gates, from `W_ih x + b_ih` of one step or of all.

        `from_input` is `(..., G*H)`; a, within [0, 1], b and the gates are `(..., H)`.
        """
        raise NotImplementedError(f"{type(self).__name__} writes no coefficients: see LinearCell")

    def activate(
        self,
        from_input: Tensor,
        from_hidden: Tensor | None,
        state: Tensor,
        drop: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        (a, b), gates = self.coefficients(from_input)
        return a * state + kept(b, drop), gates

    def step(
        self, weights: Weights, from_input: Tensor, state: State, noise: Noise | None = None
    ) -> tuple[State, tuple[Tensor, ...]]:
        return self.activate(from_input, None, state, *drop_of(noise))

    def overridden(self) -> str | None:
        return replaced(self, LinearCell, ("step", "from_inputs", "output"))

    @property
    def linear(self) -> bool:
        return replaced(self, LinearCell, ("activate", "step", "output")) is None
