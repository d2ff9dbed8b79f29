"""The request: one recurrence to compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Self

from torch import Tensor

from seqcells.equations.protocol import Weights
from seqcells.noise import Noise
from seqcells.state import State, map_state


class Request(NamedTuple):
    """A gated cell over a sequence, with the weights and the noise of that sequence.

    All fields are validated: lengths and resets against the inputs, states against the cell, noise
    against the states.

    Attributes:
        cell: the equations.
        weights: those of the cell or layer.
        inputs: `(T, B, I)`; packed `(N, I)` with `batch_sizes`; a single step `(B, I)`.
        state: the initial state, in the cell's structure.
        fresh: the state after a reset; None without resets.
        noise: the noise drawn by the cell's modifiers, or None.
        lengths: `(B,)`. Inputs beyond a length have no effect.
        batch_sizes: `(T,)`, on the CPU, of a packed sequence.
        resets: `(T, B)`.
        reverse: run from the last step to the first.
        all_states: return the states of all steps in place of the outputs.
    """

    cell: Any
    weights: Any  # `Weights`; None for a cell that is called at every step
    inputs: Tensor
    state: State
    fresh: State = None
    noise: Noise | None = None
    lengths: Tensor | None = None
    batch_sizes: Tensor | None = None
    resets: Tensor | None = None
    reverse: bool = False
    all_states: bool = False

    @property
    def single(self) -> bool:
        """Whether this is one step, without a time dimension."""
        return self.inputs.dim() == 2 and self.batch_sizes is None

    def map(self, convert: Callable[[Tensor], Tensor]) -> Self:
        """Return the request with weights, inputs, states and noise converted."""
        weights: Any = [part if part is None else convert(part) for part in self.weights]
        return self._replace(
            weights=Weights(*weights),
            inputs=convert(self.inputs),
            state=map_state(convert, self.state),
            fresh=None if self.fresh is None else map_state(convert, self.fresh),
            noise=None if self.noise is None else self.noise.map(convert),
        )
