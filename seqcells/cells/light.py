"""LSTM without input and output gates (Johnson & Zhang 2016)."""

from __future__ import annotations

import torch
from torch import Tensor

from seqcells.cells.lstm import LSTMState
from seqcells.cells.variants import LSTMVariant
from seqcells.noise import scale_candidate


class LightLSTMCell(LSTMVariant):
    r"""LSTM with only a forget gate (Johnson & Zhang, "Supervised and semi-supervised text
    categorization using LSTM for region embeddings", 2016)::

        f = sigma(W_if x + b_if + W_hf h' + b_hf)
        u =  tanh(W_iu x + b_iu + W_hu h' + b_hu)
        c = f * c' + u
        h = tanh(c)

    Designed for text classification with pooling over time. Pooling selects the relevant steps in
    place of the input and output gates. The cell has half the parameters and products of the LSTM.

    Arguments and state are those of `LSTMCell` without projection. The parameters have the rows of
    two gates, in the order f, u.

    Parameter count: `2*H*(I + H + 2)`.

    Raises:
        TypeError, ValueError: sizes that are not positive integers.
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
        cell = forget * state.cell + scale_candidate(candidate, drop)
        hidden = torch.tanh(cell)
        return LSTMState(hidden, cell), (forget, candidate)
