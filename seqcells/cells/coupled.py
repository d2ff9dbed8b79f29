"""LSTM with coupled input and forget gates (Greff et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from seqcells.cells.lstm import LSTMState
from seqcells.cells.variants import LSTMVariant
from seqcells.noise import scale_candidate


class CoupledLSTMCell(LSTMVariant):
    r"""LSTM with coupled input and forget gates, CIFG (Greff et al., "LSTM: A search space
    odyssey", 2017)::

        f = sigma(W_if x + b_if + W_hf h' + b_hf)
        g =  tanh(W_ig x + b_ig + W_hg h' + b_hg)
        o = sigma(W_io x + b_io + W_ho h' + b_ho)
        c = f * c' + (1 - f) * g
        h = o * tanh(c)

    The paper computes the input gate and sets `f = 1 - i`. This cell computes the forget gate and
    sets `i = 1 - f`, so that `forget_bias_` and `chrono_` of `seqcells.init` apply. The functions
    are the same, since `1 - sigma(z) = sigma(-z)`.

    Arguments and state are those of `LSTMCell` without projection. The parameters have the rows of
    three gates, in the order f, g, o.

    Parameter count: `3*H*(I + H + 2)`.

    Raises:
        TypeError, ValueError: sizes that are not positive integers.
    """

    gates = ("forget", "candidate", "output")
    kernel = "coupled_lstm"

    @staticmethod
    def activate(
        from_input: Tensor, from_hidden: Tensor, state: LSTMState, drop: Tensor | None = None
    ) -> tuple[LSTMState, tuple[Tensor, ...]]:
        forget, candidate, output = (from_input + from_hidden).chunk(3, dim=-1)
        forget = torch.sigmoid(forget)
        candidate = torch.tanh(candidate)
        output = torch.sigmoid(output)
        cell = forget * state.cell + (1 - forget) * scale_candidate(candidate, drop)
        hidden = output * torch.tanh(cell)
        return LSTMState(hidden, cell), (forget, candidate, output)
