"""A cell around a cell: what modifiers have in common, and how one runs (`modifiers.py`: ours)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from seqcells.cells.base import Cell, GatedCell, Weights
from seqcells.cells.checks import check_cell, takes
from seqcells.noise import Noise, check_noise, zoned
from seqcells.state import State, conform_state, first_tensor, map_state

TORCH_CELLS = (nn.RNNCell, nn.GRUCell, nn.LSTMCell)


class Modifier(Cell):
    """A cell around a cell: it draws noise, or changes weights or the initial state.

    The equations stay those of the innermost cell, whatever stands around it and in whatever
    order: modifiers compose, and are cells wherever a cell is taken.

    One of your own writes `draw`, here a dropout of the hidden state anew at every step::

        class Flicker(Modifier):
            def draw(self, state, steps):
                ones = self.output(state).new_ones(steps, *self.output(state).shape)
                return Noise(hidden=F.dropout(ones, 0.1)) if self.training else Noise()

    Attributes:
        cell: the cell that it stands around.
    """

    def __init__(self, cell: Callable[..., State]) -> None:
        super().__init__()
        self.cell = check_cell(cell)

    def draw(self, state: State, steps: int) -> Noise:
        """What this modifier adds to the noise of a sequence that starts from `state`."""
        return Noise()

    def noise(self, state: State, steps: int) -> Noise:
        """The noise of a sequence that starts from `state`: all modifiers' at once."""
        within = self.cell.noise(state, steps) if isinstance(self.cell, Modifier) else Noise()
        return within.beside(self.draw(state, steps))

    def weights(self) -> Weights:
        """The weights of one sequence."""
        return self.cell.weights()

    @property
    def initial_state(self) -> Callable[..., State]:
        """The cell's own, if it has one."""
        make = start_of(self.cell)
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
        """One step; its `noise` is that of a sequence of one step, drawn here, unless given.

        Shapes:
            as the cell's; `noise` always with a batch and without a time.
        """
        if input.dim() == 1:
            batched = None if hx is None else map_state(lambda part: part.unsqueeze(0), hx)
            state = Modifier.forward(self, input.unsqueeze(0), batched, noise)
            return map_state(lambda part: part.squeeze(0), state)
        state = self._before(input, hx)
        if noise is None:
            noise = self.noise(state, 1).at(0, state)
        return call(self.cell, input, state, noise)

    def _before(self, input: Tensor, hx: State | None) -> State:
        cell, make = innermost(self), getattr(self, "initial_state", None)
        if isinstance(cell, GatedCell):
            cell.check_input(input)
        if make is None:
            return hx
        dtype = input.dtype if input.is_floating_point() else None
        fresh = make(input.shape[0], device=input.device, dtype=dtype)
        return fresh if hx is None else conform_state(hx, fresh)


def innermost(cell: Any) -> Any:
    """The cell that all modifiers stand around."""
    while isinstance(cell, Modifier):
        cell = cell.cell
    return cell


def as_it_stands(cell: Any) -> bool:
    """Whether it is a gated cell without a forward of its own, which knows what noise is."""
    own = type(cell).forward if isinstance(cell, GatedCell) else None
    return own is GatedCell.forward and "forward" not in vars(cell)


def start_of(cell: Any) -> Callable[..., State] | None:
    """What makes a cell's initial state; of a cell without it, None, unless it is torch's own."""
    make = getattr(cell, "initial_state", None)
    return partial(_zeros, cell) if make is None and type(cell) in TORCH_CELLS else make


def _zeros(
    cell: nn.RNNCellBase,
    batch_size: int,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> State:
    own = next(cell.parameters())
    zeros = own.new_zeros(batch_size, cell.hidden_size, device=device, dtype=dtype)
    return (zeros, zeros) if isinstance(cell, nn.LSTMCell) else zeros


def call(cell: Any, input: Tensor, state: State, noise: Noise | None) -> State:
    """One step by calling the cell, with that step's noise, which no modifier adds to."""
    if isinstance(cell, Modifier):
        return cell(input, state, noise=noise or Noise())
    if noise is None or all(part is None for part in noise):
        return cell(input, state)
    if as_it_stands(cell):
        return cell(input, state, noise=noise)
    seen = state
    if noise.hidden is not None:
        hidden = first_tensor(state) * noise.hidden
        seen = hidden if isinstance(state, Tensor) else (hidden, *state[1:])
    return zoned(noise, state, cell(input, seen))


def obstacle(cell: Any, field: str) -> str | None:
    """Why the innermost cell cannot take this field of a noise; None where it can."""
    cell, name = innermost(cell), type(innermost(cell)).__name__
    if field == "zone":
        return None
    if not as_it_stands(cell):
        # These two read their hidden state by the product alone.
        if field == "hidden" and type(cell) in (nn.RNNCell, nn.LSTMCell):
            return None
        return f"expected a GatedCell without a forward of its own, got {name}"
    if field != "candidate" and cell.parameter_shapes().get("weight_hh") is None:
        return f"expected a cell with recurrent weights (weight_hh), got {name}"
    if field == "candidate" and not takes(cell.activate, 4):
        return (
            f"expected a cell whose activate takes a fourth argument, drop, the factor on its "
            f"candidate; got {name}"
        )
    if field != "weight_hh" and not takes(cell.step, 4):
        return f"expected a cell whose step takes a fourth argument, noise; got {name}"
    return None


def noise_of(cell: Any, given: Noise | None, state: State, steps: int) -> Noise | None:
    """The noise of a sequence: the given one, checked, or what the cell's modifiers draw.

    Raises:
        TypeError: no `Noise`; a part that the cell cannot take; a state that is not known.
        ValueError: a shape or dtype that does not fit.
    """
    if given is None:
        return cell.noise(state, steps) if isinstance(cell, Modifier) else None
    if not isinstance(given, Noise):
        raise TypeError(f"noise: expected a seqcells.Noise, got {type(given).__name__}")
    if not any(part is not None for part in given):
        return given
    if state is None:
        raise TypeError(unknown_state(cell))
    if not torch.compiler.is_compiling():
        for field in given._fields:
            if getattr(given, field) is not None and (reason := obstacle(cell, field)):
                raise TypeError(f"noise.{field}: {reason}")
    hidden = getattr(cell, "output", first_tensor)(state).shape
    candidate = (first_tensor(state).shape[0], getattr(innermost(cell), "hidden_size", None))
    check_noise(given, steps, state, hidden, candidate)
    return given


def unknown_state(cell: Any) -> str:
    """What to do about a state whose size is not known before the first step."""
    name = type(innermost(cell)).__name__
    return (
        f"expected a state before the first step; {name} has no initial_state: write one, or "
        "pass the initial state"
    )


def chosen(like: Tensor, share: float) -> Tensor:
    """Ones, each with probability `share`, and zeros: a third of the time of `bernoulli_`."""
    return (torch.rand(like.shape, device=like.device) < share).to(like.dtype)


def leaves(state: State) -> list[Any]:
    """The leaves of nested tuples and lists, in order."""
    if not isinstance(state, (tuple, list)):
        return [state]
    return [part for parts in state for part in leaves(parts)]
