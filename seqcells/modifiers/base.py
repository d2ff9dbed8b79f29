"""Base class of modifiers, and calls of cells with noise."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from seqcells.cells.base import GatedCell, Weights
from seqcells.cells.cell import Cell
from seqcells.cells.checks import check_cell
from seqcells.equations.protocol import activate_takes, takes
from seqcells.noise import Noise, apply_zoneout, check_noise
from seqcells.state import State, conform_state, first_tensor, map_state
from seqcells.validation import check_called

TORCH_CELLS = (nn.RNNCell, nn.GRUCell, nn.LSTMCell)


class Modifier(Cell):
    """A wrapper around a cell that draws noise, or changes its weights or initial state.

    The equations are those of the innermost cell. Modifiers compose in any order, and are accepted
    wherever a cell is.

    A subclass implements `draw`. This one draws a new dropout mask of the hidden state at each
    step::

        class Flicker(Modifier):
            def draw(self, state, steps):
                ones = self.output(state).new_ones(steps, *self.output(state).shape)
                return Noise(hidden=F.dropout(ones, 0.1)) if self.training else Noise()

    Attributes:
        cell: the wrapped cell.
    """

    def __init__(self, cell: Callable[..., State]) -> None:
        super().__init__()
        self.cell = check_cell(cell)

    def draw(self, state: State, steps: int) -> Noise:
        """Draw this modifier's noise for a sequence of `steps` steps that starts from `state`."""
        return Noise()

    def noise(self, state: State, steps: int) -> Noise:
        """Draw the combined noise of this and all inner modifiers for a sequence."""
        inner = self.cell.noise(state, steps) if isinstance(self.cell, Modifier) else Noise()
        return inner.combine(self.draw(state, steps))

    def weights(self) -> Weights:
        """Return the weights of the wrapped cell for one sequence."""
        return self.cell.weights()

    @property
    def initial_state(self) -> Callable[..., State]:
        """The wrapped cell's `initial_state`; an AttributeError if it has none."""
        make = state_factory(self.cell)
        if make is None:
            raise AttributeError(f"{type(innermost(self)).__name__} has no initial_state")
        return make

    def output(self, state: State) -> Tensor:
        return getattr(self.cell, "output", first_tensor)(state)

    @property
    def input_size(self) -> int:
        return self.cell.input_size

    @property
    def hidden_size(self) -> int:
        return self.cell.hidden_size

    @property
    def gates(self) -> tuple[str, ...]:
        return self.cell.gates

    def forward(self, input: Tensor, hx: State | None = None, noise: Noise | None = None) -> State:
        """Compute one step, with noise drawn for a sequence of one step unless `noise` is given.

        Shapes:
            those of the cell. The tensors of `noise` have a batch dimension and no time dimension.
        """
        if isinstance(cell := innermost(self), GatedCell):
            cell.check_input(input)
        if input.dim() == 1:
            if hx is not None and (make := getattr(self, "initial_state", None)) is not None:
                dtype = input.dtype if input.is_floating_point() else None
                fresh = make(1, device=input.device, dtype=dtype)
                hx = conform_state(hx, map_state(lambda part: part.squeeze(0), fresh))
            batched = None if hx is None else map_state(lambda part: part.unsqueeze(0), hx)
            state = Modifier.forward(self, input.unsqueeze(0), batched, noise)
            return map_state(lambda part: part.squeeze(0), state)
        state = self._prepare_state(input, hx)
        if noise is None:
            noise = self.noise(state, 1).at(0, state)
        return call_cell(self.cell, input, state, noise)

    def _prepare_state(self, input: Tensor, hx: State | None) -> State:
        make = getattr(self, "initial_state", None)
        if make is None:
            return hx
        dtype = input.dtype if input.is_floating_point() else None
        fresh = make(input.shape[0], device=input.device, dtype=dtype)
        return fresh if hx is None else conform_state(hx, fresh)


def innermost(cell: Any) -> Any:
    """Return the cell inside all modifiers."""
    while isinstance(cell, Modifier):
        cell = cell.cell
    return cell


def has_standard_forward(cell: Any) -> bool:
    """Whether this is a gated cell that does not override `forward`, and so accepts noise."""
    forward = type(cell).forward if isinstance(cell, GatedCell) else None
    return forward is GatedCell.forward and "forward" not in cell.__dict__


def state_factory(cell: Any) -> Callable[..., State] | None:
    """Return the function that creates a cell's initial state, or None.

    Cells of `torch.nn` have no `initial_state`; the function returns zeros for them.
    """
    make = getattr(cell, "initial_state", None)
    return partial(_zeros, cell) if make is None and type(cell) in TORCH_CELLS else make


def _zeros(
    cell: nn.RNNCellBase,
    batch_size: int,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> State:
    like = next(cell.parameters())
    zeros = like.new_zeros(batch_size, cell.hidden_size, device=device, dtype=dtype)
    return (zeros, zeros) if isinstance(cell, nn.LSTMCell) else zeros


def call_cell(cell: Any, input: Tensor, state: State, noise: Noise | None) -> State:
    """Call the cell for one step with exactly this noise: inner modifiers draw none."""
    if isinstance(cell, Modifier):
        return cell(input, state, noise=noise or Noise())
    if noise is None or all(part is None for part in noise):
        return cell(input, state)
    if has_standard_forward(cell):
        return cell(input, state, noise=noise)
    scaled = state
    if noise.hidden is not None:
        hidden = first_tensor(state) * noise.hidden
        scaled = hidden if isinstance(state, Tensor) else (hidden, *state[1:])
    new = check_called(cell, cell(input, scaled), state, same_shape=noise.zone is not None)
    return apply_zoneout(noise, state, new)


def unsupported_reason(cell: Any, field: str) -> str | None:
    """Return why the innermost cell does not support this field of a noise, or None."""
    cell, name = innermost(cell), type(innermost(cell)).__name__
    if field == "zone":
        return None
    if not has_standard_forward(cell):
        # These two read the hidden state only in the product, so their state can be scaled.
        if field == "hidden" and type(cell) in (nn.RNNCell, nn.LSTMCell):
            return None
        return f"expected a GatedCell that does not override forward, got {name}"
    if field != "candidate" and cell.parameter_shapes().get("weight_hh") is None:
        return f"expected a cell with recurrent weights (weight_hh), got {name}"
    if field == "candidate" and not activate_takes(cell, 4):
        return (
            "expected a cell whose activate takes a fourth argument, drop, the factor on its "
            f"candidate; got {name}"
        )
    if field != "weight_hh" and not takes(cell.step, 4):
        return f"expected a cell whose step takes a fourth argument, noise; got {name}"
    return None


def resolve_noise(cell: Any, given: Noise | None, state: State, steps: int) -> Noise | None:
    """Return the noise of a sequence: `given` after validation, or noise from the modifiers.

    Raises:
        TypeError: `given` is not a `Noise`, has a field that the cell does not support, or the
            state is unknown.
        ValueError: a wrong shape or dtype.
    """
    if given is None:
        return cell.noise(state, steps) if isinstance(cell, Modifier) else None
    if not isinstance(given, Noise):
        raise TypeError(f"noise: expected a seqcells.Noise, got {type(given).__name__}")
    if not any(part is not None for part in given):
        return given
    if state is None:
        raise TypeError(missing_state_message(cell))
    if not torch.compiler.is_compiling():
        for field in type(given)._fields:
            if getattr(given, field) is not None and (reason := unsupported_reason(cell, field)):
                raise TypeError(f"noise.{field}: {reason}")
    hidden = getattr(cell, "output", first_tensor)(state).shape
    candidate = (first_tensor(state).shape[0], getattr(innermost(cell), "hidden_size", None))
    check_noise(given, steps, state, hidden, candidate)
    return given


def missing_state_message(cell: Any) -> str:
    """Return the error message for a cell whose state is unknown before the first step."""
    name = type(innermost(cell)).__name__
    return (
        f"expected a state before the first step; {name} has no initial_state: implement it, or "
        "pass the initial state"
    )


def bernoulli_like(like: Tensor, share: float) -> Tensor:
    """Return ones with probability `share`, else zeros, in a third of the time of `bernoulli_`."""
    return (torch.rand(like.shape, device=like.device) < share).to(like.dtype)


def leaves(state: State) -> list[Any]:
    """Return the leaves of nested tuples and lists, in order."""
    if not isinstance(state, (tuple, list)):
        return [state]
    return [part for parts in state for part in leaves(parts)]
