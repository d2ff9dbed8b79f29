"""Cells whose next state is linear in the previous state, computed by a parallel scan."""

from __future__ import annotations

from torch import Tensor

from seqcells.cells.base import GatedCell, Weights
from seqcells.cells.checks import overridden_method
from seqcells.noise import Noise, drop_args, scale_candidate
from seqcells.state import State
from seqcells.validation import check_coefficients, missing_method


class LinearCell(GatedCell):
    """Base class of cells `h = a * h' + b` where a and b depend only on the input.

    A subclass names its `gates` and implements `coefficients` in place of `activate`::

        class Average(LinearCell):
            gates = ("keep", "candidate")

            def coefficients(self, from_input):
                keep, candidate = from_input.chunk(2, dim=-1)
                keep = keep.sigmoid()
                return (keep, (1 - keep) * candidate), (keep, candidate)

    There is no `weight_hh`, and one bias, `bias_ih`. Over time, all coefficients are computed at
    once, and the states by a scan with O(log T) operations (`seqcells/recurrence/scan.py`). A
    subclass that overrides `activate`, `step` or `output` runs step by step. The candidate for
    `RecurrentDropout` is b.

    Parameter count: `G*H*(I + 1)`.
    """

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        return super().parameter_shapes() | {"weight_hh": None, "bias_hh": None}

    def coefficients(self, from_input: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, ...]]:
        """Return `(a, b)` and the gates from `W_ih x + b_ih` of one step or of all steps.

        Shapes:
            `from_input` `(..., G*H)`; a, within [0, 1], b and each gate `(..., H)`.
        """
        raise TypeError(missing_method(self, "coefficients", "from_input"))

    def activate(
        self,
        from_input: Tensor,
        from_hidden: Tensor | None,
        state: Tensor,
        drop: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        result = self.coefficients(from_input)
        (a, b), gates = check_coefficients(self, result, from_input)
        return a * state + scale_candidate(b, drop), gates

    def step(
        self, weights: Weights, from_input: Tensor, state: State, noise: Noise | None = None
    ) -> tuple[State, tuple[Tensor, ...]]:
        return self.activate(from_input, None, state, *drop_args(noise))

    def overridden(self) -> str | None:
        return overridden_method(self, LinearCell, ("step", "from_inputs", "output"))

    @property
    def linear(self) -> bool:
        return overridden_method(self, LinearCell, ("activate", "step", "output")) is None
