"""The request: one recurrence to compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from seqcells.compatibility import replace
from seqcells.equations.protocol import Weights
from seqcells.kernels.narrow import is_narrow, widened
from seqcells.noise import Noise
from seqcells.state import State, check_dense, flat_state, map_state


def check_placement(request: Request) -> None:
    """Raise a ValueError unless inputs and states are dense and on the device of the weights.

    PyTorch itself multiplies a tensor by a weight on the meta device, which has no values.
    """
    weights, resets = request.weights, request.resets
    place = weights.weight_ih.device
    for part in (request.inputs, *flat_state(request.state), resets, *weights):
        if isinstance(part, Tensor) and (part.layout is not torch.strided or part.device != place):
            break
    else:
        return
    for name, weight in zip(weights._fields, weights):
        if weight is not None and weight.device != place:
            raise ValueError(
                f"{name}: expected a tensor on {place}, the device of weight_ih, got "
                f"{weight.device}; load or move the whole module"
            )
    named = [("input", request.inputs), *_named_parts("state", request.state), ("resets", resets)]
    for name, part in named:
        if part is None:
            continue
        check_dense(part, name)
        if part.device != place:
            raise ValueError(
                f"{name}: expected a tensor on {place}, the device of the weights, got "
                f"{part.device}; {_placement_advice(part.device, place)}"
            )


def _placement_advice(found: torch.device, place: torch.device) -> str:
    if place.type == "meta":
        return f"load the weights first: module.to_empty(device='{found}'), then load_state_dict()"
    if found.type == "meta":
        return "pass a tensor with values, or move the module with .to('meta')"
    return f"move it with .to('{place}'), or the module with .to('{found}')"


def _named_parts(name: str, state: State) -> list[tuple[str, Any]]:
    """Return each tensor of a state with its name."""
    if not isinstance(state, (tuple, list)):
        return [(name, state)]
    fields = getattr(type(state), "_fields", range(len(state)))
    pairs = zip(fields, state)
    return [part for field, value in pairs for part in _named_parts(f"{name}.{field}", value)]


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

    def is_single(self) -> bool:
        """Whether this is one step, without a time dimension."""
        return self.inputs.dim() == 2 and self.batch_sizes is None

    def is_quantized(self) -> bool:
        """Whether the matrices are stored in fewer bits than the inputs."""
        return self.weights is not None and is_narrow(self.weights.weight_ih, self.inputs.dtype)

    def requires_grad(self) -> bool:
        """Whether a weight, the inputs or the state requires a gradient."""
        parts = self.inputs, *flat_state(self.state), *self.weights
        return any(part is not None and part.requires_grad for part in parts)

    def widened(self) -> Self:
        """Return the request without narrow matrices."""
        return replace(self, weights=widened(self.weights, self.inputs.dtype))

    def map(self, convert: Callable[[Tensor], Tensor]) -> Self:
        """Return the request with weights, inputs, states and noise converted."""
        weights: Any = [part if part is None else convert(part) for part in self.weights]
        return replace(
            self,
            weights=Weights(*weights),
            inputs=convert(self.inputs),
            state=map_state(convert, self.state),
            fresh=None if self.fresh is None else map_state(convert, self.fresh),
            noise=None if self.noise is None else self.noise.map(convert),
        )
