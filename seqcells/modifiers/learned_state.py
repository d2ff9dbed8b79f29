"""A learned initial state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from seqcells.modifiers.base import Modifier, innermost, leaves, state_factory
from seqcells.state import State, map_state


class LearnedState(Modifier):
    r"""A learned initial state, with one parameter per tensor of the state, shared by all rows.

    Resets restart from it, and it is the final state of rows of length zero. The parameters are
    initialised with the cell's own initial state, zeros for most cells.

    Parameters: `start (H)`, or for a state of several tensors one per tensor, such as
    `start_hidden (H)` and `start_cell (H)`.

    Raises:
        TypeError: the cell has no `initial_state`, so the sizes of the state are unknown.
    """

    def __init__(self, cell: Callable[..., State]) -> None:
        super().__init__(cell)
        make = state_factory(cell)
        if make is None:
            raise TypeError(
                "LearnedState: expected a cell with an initial_state, from which it takes the "
                f"state's sizes, got {type(innermost(cell)).__name__}"
            )
        like = next(self.parameters(), None)
        options = {} if like is None else {"device": like.device, "dtype": like.dtype}
        state = make(1, **options)
        self._names = _names(state, "start")
        for name, part in zip(self._names, leaves(state)):
            self.register_parameter(name, nn.Parameter(part[0].detach().clone()))

    def initial_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """Return the parameters, expanded to the rows of the batch."""
        make: Any = state_factory(self.cell)
        template = make(batch_size, device=device, dtype=dtype)
        starts = iter([getattr(self, name) for name in self._names])
        return map_state(lambda part: next(starts).to(part).expand(part.shape), template)


def _names(state: State, name: str) -> list[str]:
    """Return a parameter name for each tensor of the state, from its field names or indices."""
    if isinstance(state, Tensor):
        return [name]
    fields = getattr(type(state), "_fields", range(len(state)))
    return [leaf for part, field in zip(state, fields) for leaf in _names(part, f"{name}_{field}")]
