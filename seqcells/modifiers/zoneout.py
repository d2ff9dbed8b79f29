"""Zoneout: random units keep their previous value for a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from seqcells.cells.checks import check_share
from seqcells.modifiers.base import (
    Modifier,
    bernoulli_like,
    leaves,
    missing_state_message,
    state_factory,
)
from seqcells.noise import Noise
from seqcells.state import State, map_state


class Zoneout(Modifier):
    r"""Random units keep their previous value for a step (Krueger et al., "Zoneout: regularizing
    RNNs by randomly preserving hidden activations", 2016)::

        state = d * state' + (1 - d) * cell(x, state')       d_j = 1 with probability `share`,
                                                             else 0; in evaluation d_j = share

    d is drawn independently for each step, unit and tensor of the state. As published, an LSTM's
    new hidden state is computed from the cell state before zoneout. Padding is not affected.

    Args:
        cell: any cell whose state is known before its first step.
        share: one probability for all tensors of the state, or a structure like the state:
            `Zoneout(cell, LSTMState(hidden=0.05, cell=0.5))`.

    Raises:
        TypeError: the structure of `share` differs from the state's. When run: the cell has no
            `initial_state`, and no initial state is given.
        ValueError: a share outside [0, 1], or a wrong number of shares.
    """

    def __init__(self, cell: Callable[..., State], share: float | Sequence[Any]) -> None:
        super().__init__(cell)
        self.share = share
        _check_shares(share, "share")
        if (make := state_factory(cell)) is not None:
            _shares(share, make(1), "share")

    def draw(self, state: State, steps: int) -> Noise:
        if state is None:
            raise TypeError(f"Zoneout: {missing_state_message(self)}")

        def zone(part: Tensor, share: float) -> Tensor:
            if self.training and 0 < share < 1:
                return bernoulli_like(part.expand(steps, *part.shape), share)
            return part.new_full((), share).expand(part.shape)

        shares = _shares(self.share, state, "share")
        if not any(leaves(shares)):
            return Noise()
        return Noise(zone=map_state(zone, state, shares))

    def extra_repr(self) -> str:
        return f"share={self.share}"


def _check_shares(share: Any, name: str) -> None:
    if isinstance(share, (tuple, list)):
        for number, part in enumerate(share):
            _check_shares(part, f"{name}[{number}]")
    else:
        check_share(share, name)


def _shares(share: Any, state: State, name: str) -> Any:
    """Return a share for each tensor of the state, in the structure of the state."""
    if not isinstance(share, (tuple, list)):
        return map_state(lambda part: share, state)
    if isinstance(state, Tensor):
        raise TypeError(f"{name}: expected a number for a state of one tensor, got {share!r}")
    if len(share) != len(state):
        raise ValueError(f"{name}: expected one for each of {len(state)} parts, got {len(share)}")
    return [_shares(part, own, f"{name}[{n}]") for n, (part, own) in enumerate(zip(share, state))]
