"""The LSTM without input and output gates (Johnson & Zhang 2016)."""

from __future__ import annotations

import torch
from torch import Tensor

from seqcells.cells.lstm import LSTMState
from seqcells.cells.variants import LSTMVariant
from seqcells.noise import kept


class LightLSTMCell(LSTMVariant):
    r"""LSTM with the forget gate alone (Johnson & Zhang, "Supervised and semi-supervised text
    categorization using LSTM for region embeddings", 2016)::

        f = sigma(W_if x + b_if + W_hf h' + b_hf)
        u =  tanh(W_iu x + b_iu + W_hu h' + b_hu)
        c = f * c' + u
        h = tanh(c)

    Made for text whose outputs are pooled over time: pooling picks the steps that matter, which
    the input and output gates would do. Half of the LSTM's parameters and products are left.

    The arguments and state are `LSTMCell`'s without projection; two gates' parameters, rows f, u.

    Parameter count: `2*H*(I + H + 2)`.

    Raises:
        TypeError, ValueError: sizes that are no positive integers.
    """

    gates = ("forget", "candidate")
    kernel = "light_lstm"

    @staticmethod
    def activate(
        from_input: Tensor, from_hidden: Tensor, state: LSTMState, drop: Tensor | None = None
    ) -> tuple[LSTMState, tuple[Tensor, ...]]:
        forget, candidate = (from_input + from_hidden).chunk(2, dim=-1)
        forget = torch.sigmoid(forget)
        candidate = torch.tanh(candidate)
        cell = forget * state.cell + kept(candidate, drop)
        hidden = torch.tanh(cell)
        return LSTMState(hidden, cell), (forget, candidate)
