"""Multiplicative LSTM (Krause et al. 2016)."""

from __future__ import annotations

import torch
from torch import Tensor

from seqcells.cells.lstm import LSTMState
from seqcells.cells.variants import LSTMVariant
from seqcells.equations.late import Multiply
from seqcells.noise import scale_candidate


class MultiplicativeLSTMCell(LSTMVariant):
    r"""LSTM whose recurrent weights depend on the input (Krause et al., "Multiplicative LSTM for
    sequence modelling", 2016)::

        m = (W_im x + b_im) * (W_hm h' + b_hm)
        i = sigma(W_ii x + b_ii + W_hi m + b_hi)
        f = sigma(W_if x + b_if + W_hf m + b_hf)
        g =  tanh(W_ig x + b_ig + W_hg m + b_hg)
        o = sigma(W_io x + b_io + W_ho m + b_ho)
        c = f * c' + i * g
        h = o * tanh(c)

    The gates read m in place of the hidden state, so the recurrent weights differ by input. Used
    for text, character by character (Radford et al., "Learning to generate reviews and discovering
    sentiment", 2017). The paper has no biases in m and one bias per gate.

    Arguments and state are those of `LSTMCell` without projection. The parameters have the rows of
    five gates, in the order m, i, f, g, o.

    Parameter count: `5*H*(I + H + 2)`.

    Raises:
        TypeError, ValueError: sizes that are not positive integers.
    """

    gates = ("multiplier", "input", "forget", "candidate", "output")
    late_gates = gates[1:]
    kernel = "multiplicative_lstm"

    @staticmethod
    def activate(  # type: ignore[override]
        from_input: Tensor,
        from_hidden: Tensor,
        state: LSTMState,
        drop: Tensor | None = None,
        *,
        multiply: Multiply,
    ) -> tuple[LSTMState, tuple[Tensor, ...]]:
        H = state.cell.shape[-1]
        multiplier = from_input[:, :H] * from_hidden
        from_multiplier = multiply(multiplier, "input", "forget", "candidate", "output")
        input, forget, candidate, output = (from_input[:, H:] + from_multiplier).chunk(4, dim=-1)
        input = torch.sigmoid(input)
        forget = torch.sigmoid(forget)
        candidate = torch.tanh(candidate)
        output = torch.sigmoid(output)
        cell = forget * state.cell + input * scale_candidate(candidate, drop)
        hidden = output * torch.tanh(cell)
        return LSTMState(hidden, cell), (multiplier, input, forget, candidate, output)
