"""The LSTM whose input and forget gates are one (Greff et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from seqcells.cells.lstm import LSTMState
from seqcells.cells.variants import LSTMVariant
from seqcells.noise import kept


class CoupledLSTMCell(LSTMVariant):
    r"""LSTM with coupled input and forget gates, CIFG (Greff et al., "LSTM: A search space
    odyssey", 2017)::

        f = sigma(W_if x + b_if + W_hf h' + b_hf)
        g =  tanh(W_ig x + b_ig + W_hg h' + b_hg)
        o = sigma(W_io x + b_io + W_ho h' + b_ho)
        c = f * c' + (1 - f) * g
        h = o * tanh(c)

    The paper computes the input gate and takes `f = 1 - i`. Here the forget gate is computed and
    `i = 1 - f`: the same function, since `1 - sigma(z) = sigma(-z)`, and what opens forget gates
    (`seqcells.init`) finds this one.

    The arguments and state are `LSTMCell`'s without projection; three gates' parameters, rows f,
    g, o.

    Parameter count: `3*H*(I + H + 2)`.

    Raises:
        TypeError, ValueError: sizes that are no positive integers.
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
        cell = forget * state.cell + (1 - forget) * kept(candidate, drop)
        hidden = output * torch.tanh(cell)
        return LSTMState(hidden, cell), (forget, candidate, output)
