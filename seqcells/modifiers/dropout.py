"""Dropout of the hidden state, of the candidate, or of the recurrent weights."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from seqcells.cells.checks import check_share
from seqcells.compatibility import replace
from seqcells.modifiers.base import Modifier, bernoulli_like, innermost, unsupported_reason
from seqcells.noise import Noise
from seqcells.state import State, first_tensor


class _Dropout(Modifier):
    """Base class of dropout on one field of the noise.

    Elements are zero with probability `share`; the others are scaled by `1 / (1 - share)`.
    """

    field: str

    def __init__(self, cell: Callable[..., State], share: float) -> None:
        super().__init__(cell)
        check_share(share, "share")
        if reason := unsupported_reason(cell, self.field):
            raise TypeError(f"{type(self).__name__}: {reason}")
        self.share = float(share)

    def draw(self, state: State, steps: int) -> Noise:
        if not self.training or not self.share:
            return Noise()
        ones = self.ones(state, steps)
        if self.share < 1:
            ones = ones / (1 - self.share)
        return replace(Noise(), **{self.field: ones * bernoulli_like(ones, 1 - self.share)})

    def ones(self, state: State, steps: int) -> Tensor:
        """Return ones with the shape, dtype and device of the mask."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"share={self.share}"


class VariationalDropout(_Dropout):
    r"""Dropout of the hidden state in the recurrent product, with one mask per sequence (Gal &
    Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks",
    2016)::

        W_hh h' + b_hh  becomes  W_hh (d * h') + b_hh        d_j = 0 with probability `share`,
                                                             else 1 / (1 - share)

    d `(B, H)` is the same at every step and for every gate. In late products it multiplies the
    value in place of h'. It does not affect other reads of the state, such as `z * h'` in the GRU.
    The paper also drops inputs: multiply them by one mask `(1, B, I)` before the recurrence.

    Raises:
        TypeError: the cell has no recurrent product, or is not a `GatedCell` with the standard
            `forward`. `torch.nn.RNNCell` and `torch.nn.LSTMCell` are supported, since they read the
            hidden state only in the product.
        ValueError: a share outside [0, 1].
    """

    field = "hidden"

    def ones(self, state: State, steps: int) -> Tensor:
        hidden = self.output(state)
        return hidden.new_ones(hidden.shape)


class RecurrentDropout(_Dropout):
    r"""Dropout of the candidate where it enters the state (Semeniuta, Severyn & Barth, "Recurrent
    dropout without memory loss", 2016)::

        c = f * c' + i * (d * g)                 LSTM       d_j = 0 with probability `share`,
        h = (1 - z) * (d * n) + z * h'           GRU        else 1 / (1 - share)

    It affects new values only, never the remembered state. d `(T, B, H)` has a new mask at each
    step, as published.

    Raises:
        TypeError: the `activate` of the cell takes no fourth argument `drop`, such as that of the
            RNN, or the cell is not a `GatedCell` with the standard `forward`.
        ValueError: a share outside [0, 1].
    """

    field = "candidate"

    def ones(self, state: State, steps: int) -> Tensor:
        part = first_tensor(state)
        return part.new_ones(steps, part.shape[0], self.hidden_size)


class DropConnect(_Dropout):
    r"""Dropout of the recurrent weights, with one mask per sequence (Merity, Keskar & Socher,
    "Regularizing and optimizing LSTM language models", 2017)::

        W_hh  becomes  D * W_hh        D_jk = 0 with probability `share`, else 1 / (1 - share)

    The mask is the same for all rows of the batch and at every step. Kernels run the masked weights
    like any other weights.

    Raises:
        TypeError: the cell has no recurrent weights, or is not a `GatedCell` with the standard
            `forward`.
        ValueError: a share outside [0, 1].
    """

    field = "weight_hh"

    def ones(self, state: State, steps: int) -> Tensor:
        cell = innermost(self)
        like = cell._any_parameter()
        return like.new_ones(cell.parameter_shapes()["weight_hh"])
