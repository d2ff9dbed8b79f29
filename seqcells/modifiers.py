"""Modifiers: regularisation and learned starts around any cell. They compose, in any order.

A modified cell runs as its plain cell does, in `Recurrent` and `Stack`, with lengths, resets and
in both directions. What is random is drawn before a sequence runs (`Noise`), in training alone:
`torch.manual_seed` reproduces it, and evaluation is deterministic. A share of zero is the plain
cell. A cell that is called by itself is a sequence of one step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seqcells.cells.checks import check_share
from seqcells.modified import Modifier, innermost, obstacle, start_of, unknown_state
from seqcells.noise import Noise
from seqcells.state import State, first_tensor, map_state


class _Dropout(Modifier):
    """A modifier that drops a share of something, and scales the rest up by `1 / (1 - share)`.

    `field` says which part of the noise that is.
    """

    field: str

    def __init__(self, cell: Callable[..., State], share: float) -> None:
        super().__init__(cell)
        check_share(share, "share")
        if reason := obstacle(cell, self.field):
            raise TypeError(f"{type(self).__name__}: {reason}")
        self.share = float(share)

    def draw(self, state: State, steps: int) -> Noise:
        if not self.training or not self.share:
            return Noise()
        ones = self.ones(state, steps)
        if self.share < 1:
            ones = ones / (1 - self.share)
        return Noise()._replace(**{self.field: ones * _chosen(ones, 1 - self.share)})

    def ones(self, state: State, steps: int) -> Tensor:
        """Ones where the mask shall be."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"share={self.share}"


class VariationalDropout(_Dropout):
    r"""Dropout of the hidden state that the recurrent product reads, one mask a sequence (Gal &
    Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks",
    2016)::

        W_hh h' + b_hh  becomes  W_hh (d * h') + b_hh        d_j = 0 with probability `share`,
                                                             else 1 / (1 - share)

    d `(B, H)` is the same at every step and for every gate. Only the product sees it: what a cell
    carries on, as the GRU's `z * h'`, is whole. The same dropout of the inputs, which is the
    paper's other half, is an ordinary one of a mask `(1, B, I)` before the recurrence.

    Raises:
        TypeError: a cell without a recurrent product, or one that is only called, so that nothing
            tells its product from the rest; torch's RNN and LSTM cells do nothing else with h.
        ValueError: a share outside [0, 1].
    """

    field = "hidden"

    def ones(self, state: State, steps: int) -> Tensor:
        hidden = self.output(state)
        return hidden.new_ones(hidden.shape)


class RecurrentDropout(_Dropout):
    r"""Recurrent dropout without memory loss (Semeniuta, Severyn & Barth, 2016): of the candidate,
    where it enters the state::

        c = f * c' + i * (d * g)                 LSTM       d_j = 0 with probability `share`,
        h = (1 - z) * (d * n) + z * h'           GRU        else 1 / (1 - share)

    What is dropped is a part of what is new, never of what is remembered. d `(T, B, H)` is drawn
    anew at every step, as published.

    Raises:
        TypeError: a cell without a candidate, whose `activate` takes no fourth argument `drop`, as
            the RNN, or one that is only called.
        ValueError: a share outside [0, 1].
    """

    field = "candidate"

    def ones(self, state: State, steps: int) -> Tensor:
        part = first_tensor(state)
        return part.new_ones(steps, part.shape[0], self.hidden_size)


class DropConnect(_Dropout):
    r"""Dropout of recurrent weights, one mask a sequence (Merity, Keskar & Socher, "Regularizing
    and optimizing LSTM language models", 2017)::

        W_hh  becomes  D * W_hh        D_jk = 0 with probability `share`, else 1 / (1 - share)

    The mask is the same for all rows of the batch and at every step. The masked weights are
    weights like others, so a kernel runs them as it runs the plain cell.

    Raises:
        TypeError: a cell without recurrent weights, or one that is only called.
        ValueError: a share outside [0, 1].
    """

    field = "weight_hh"

    def ones(self, state: State, steps: int) -> Tensor:
        cell = innermost(self)
        own = next(cell.parameters())
        return own.new_ones(cell.parameter_shapes()["weight_hh"])


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
                return _chosen(part.expand(steps, *part.shape), share)
            return part.new_full((), share).expand(part.shape)

        shares = _shares(self.share, state, "share")
        some = [share for share in _flat(shares) if share]
        return Noise(zone=map_state(zone, state, shares)) if some else Noise()

    def extra_repr(self) -> str:
        return f"share={self.share}"


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
        for name, part in zip(self._names, _flat(state)):
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


def _chosen(like: Tensor, share: float) -> Tensor:
    """Ones, each with probability `share`, and zeros: a third of the time of `bernoulli_`."""
    return (torch.rand(like.shape, device=like.device) < share).to(like.dtype)


def _flat(state: State) -> list[Any]:
    if not isinstance(state, (tuple, list)):
        return [state]
    return [part for parts in state for part in _flat(parts)]


def _names(state: State, name: str) -> list[str]:
    """A name for each tensor of the state, by the names of its parts."""
    if isinstance(state, Tensor):
        return [name]
    fields = getattr(state, "_fields", range(len(state)))
    return [leaf for part, field in zip(state, fields) for leaf in _names(part, f"{name}_{field}")]


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
