"""Dropout of the hidden state, of the candidate, or of the recurrent weights."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from seqcells.cells.checks import check_share
from seqcells.modifiers.base import Modifier, chosen, innermost, obstacle
from seqcells.noise import Noise
from seqcells.state import State, first_tensor


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
        return Noise()._replace(**{self.field: ones * chosen(ones, 1 - self.share)})

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
