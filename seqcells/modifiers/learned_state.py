"""A learned initial state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from seqcells.modifiers.base import Modifier, innermost, leaves, start_of
from seqcells.state import State, map_state


class LearnedState(Modifier):
    r"""An initial state that is learned: each part of it a parameter, the same for every row.

    A reset restarts from it, and a row of length zero ends with it. It starts out as the cell's
    own initial state, zeros for most.

    Parameters: `start (H)`; for a state of several parts one each, as `start_hidden (H)` and
    `start_cell (H)`.

    Raises:
        TypeError: a cell that has no `initial_state` to tell the state's sizes.
    """

    def __init__(self, cell: Callable[..., State]) -> None:
        super().__init__(cell)
        make = start_of(cell)
        if make is None:
            raise TypeError(
                "LearnedState: expected a cell with an initial_state, which tells the state's "
                f"sizes, got {type(innermost(cell)).__name__}"
            )
        own = next(self.parameters(), None)
        options = {} if own is None else {"device": own.device, "dtype": own.dtype}
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
        """The parameters, for every row of the batch."""
        make: Any = start_of(self.cell)
        form = make(batch_size, device=device, dtype=dtype)
        starts = iter([getattr(self, name) for name in self._names])
        return map_state(lambda part: next(starts).to(part).expand(part.shape), form)


def _names(state: State, name: str) -> list[str]:
    """A name for each tensor of the state, by the names of its parts."""
    if isinstance(state, Tensor):
        return [name]
    fields = getattr(state, "_fields", range(len(state)))
    return [leaf for part, field in zip(state, fields) for leaf in _names(part, f"{name}_{field}")]
