"""Units that keep their value for a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from seqcells.cells.checks import check_share
from seqcells.modifiers.base import Modifier, chosen, leaves, start_of, unknown_state
from seqcells.noise import Noise
from seqcells.state import State, map_state


class Zoneout(Modifier):
    r"""Units that stay as they were for a step (Krueger et al., "Zoneout: regularizing RNNs by
    randomly preserving hidden activations", 2016)::

        state = d * state' + (1 - d) * cell(x, state')       d_j = 1 with probability `share`,
                                                             else 0; in evaluation d_j = share

    d is drawn anew for each step, unit and part of the state. As published, an LSTM's new hidden
    state comes of the cell state before zoneout. Past a row's length nothing changes.

    Args:
        cell: the cell; any will do whose state is known before its first step.
        share: of all parts of the state, or for each part its own, in the state's form:
            `Zoneout(cell, LSTMState(hidden=0.05, cell=0.5))`.

    Raises:
        TypeError: shares in another form than the state's; when run, a cell without
            `initial_state` that is given no initial state.
        ValueError: a share outside [0, 1], a wrong number of shares.
    """

    def __init__(self, cell: Callable[..., State], share: float | Sequence[Any]) -> None:
        super().__init__(cell)
        self.share = share
        _check_shares(share, "share")
        if (make := start_of(cell)) is not None:
            _shares(share, make(1), "share")

    def draw(self, state: State, steps: int) -> Noise:
        if state is None:
            raise TypeError(f"Zoneout: {unknown_state(self)}")

        def zone(part: Tensor, share: float) -> Tensor:
            if self.training and 0 < share < 1:
                return chosen(part.expand(steps, *part.shape), share)
            return part.new_full((), share).expand(part.shape)

        shares = _shares(self.share, state, "share")
        some = [share for share in leaves(shares) if share]
        return Noise(zone=map_state(zone, state, shares)) if some else Noise()

    def extra_repr(self) -> str:
        return f"share={self.share}"


def _check_shares(share: Any, name: str) -> None:
    if isinstance(share, (tuple, list)):
        for number, part in enumerate(share):
            _check_shares(part, f"{name}[{number}]")
    else:
        check_share(share, name)


def _shares(share: Any, state: State, name: str) -> Any:
    """A share for each tensor of the state, in its form."""
    if not isinstance(share, (tuple, list)):
        return map_state(lambda part: share, state)
    if isinstance(state, Tensor):
        raise TypeError(f"{name}: expected a number for a state of one tensor, got {share!r}")
    if len(share) != len(state):
        raise ValueError(f"{name}: expected one for each of {len(state)} parts, got {len(share)}")
    return [_shares(part, own, f"{name}[{n}]") for n, (part, own) in enumerate(zip(share, state))]
