"""LSTM with peephole connections (Gers & Schmidhuber 2000)."""

from __future__ import annotations

import torch
from torch import Tensor

from seqcells.cells.lstm import LSTMState
from seqcells.cells.variants import LSTMVariant
from seqcells.noise import scale_candidate


class PeepholeLSTMCell(LSTMVariant):
    r"""LSTM with peephole connections (Gers & Schmidhuber, "Recurrent nets that time and count",
    2000)::

        i = sigma(W_ii x + b_ii + W_hi h' + b_hi + p_i * c')
        f = sigma(W_if x + b_if + W_hf h' + b_hf + p_f * c')
        g =  tanh(W_ig x + b_ig + W_hg h' + b_hg)
        c = f * c' + i * g
        o = sigma(W_io x + b_io + W_ho h' + b_ho + p_o * c)
        h = o * tanh(c)

    The input and forget gates read the previous cell state of their own unit, the output gate the
    new one. The tanh around c follows later papers (Graves 2013; Greff et al. 2017).

    Arguments, state and parameters are those of `LSTMCell` without projection, with rows i, f, g,
    o, and `weight_peephole (3H)` in the order p_i, p_f, p_o. It is initialised like the others.

    Parameter count: `4*H*(I + H + 2) + 3*H`.

    Raises:
        TypeError, ValueError: sizes that are not positive integers.
    """

    gates = ("input", "forget", "candidate", "output")
    kernel = "peephole_lstm"
    weight_peephole: Tensor

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        return super().parameter_shapes() | {"weight_peephole": (3 * self.hidden_size,)}

    def activate(
        self,
        from_input: Tensor,
        from_hidden: Tensor,
        state: LSTMState,
        drop: Tensor | None = None,
    ) -> tuple[LSTMState, tuple[Tensor, ...]]:
        input, forget, candidate, output = (from_input + from_hidden).chunk(4, dim=-1)
        peephole_input, peephole_forget, peephole_output = self.weight_peephole.chunk(3)
        input = torch.sigmoid(input + peephole_input * state.cell)
        forget = torch.sigmoid(forget + peephole_forget * state.cell)
        candidate = torch.tanh(candidate)
        cell = forget * state.cell + input * scale_candidate(candidate, drop)
        output = torch.sigmoid(output + peephole_output * cell)
        hidden = output * torch.tanh(cell)
        return LSTMState(hidden, cell), (input, forget, candidate, output)
