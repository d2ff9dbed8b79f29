"""The LSTM whose gates see the cell state (Gers & Schmidhuber 2000)."""

from __future__ import annotations

import torch
from torch import Tensor

from seqcells.cells.lstm import LSTMState
from seqcells.cells.variants import LSTMVariant
from seqcells.noise import kept


class PeepholeLSTMCell(LSTMVariant):
    r"""LSTM with peepholes (Gers & Schmidhuber, "Recurrent nets that time and count", 2000)::

        i = sigma(W_ii x + b_ii + W_hi h' + b_hi + p_i * c')
        f = sigma(W_if x + b_if + W_hf h' + b_hf + p_f * c')
        g =  tanh(W_ig x + b_ig + W_hg h' + b_hg)
        c = f * c' + i * g
        o = sigma(W_io x + b_io + W_ho h' + b_ho + p_o * c)
        h = o * tanh(c)

    The input and forget gates see the last cell state, the output gate the new one, each unit its
    own. The tanh around c is that of later papers (Graves 2013; Greff et al. 2017).

    The arguments, state and parameters are `LSTMCell`'s without projection, rows i, f, g, o, and
    `weight_peephole (3H)`, in the order p_i, p_f, p_o, drawn as the others are.

    Parameter count: `4*H*(I + H + 2) + 3*H`.

    Raises:
        TypeError, ValueError: sizes that are no positive integers.
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
        to_input, to_forget, to_output = self.weight_peephole.chunk(3)
        input = torch.sigmoid(input + to_input * state.cell)
        forget = torch.sigmoid(forget + to_forget * state.cell)
        candidate = torch.tanh(candidate)
        cell = forget * state.cell + input * kept(candidate, drop)
        output = torch.sigmoid(output + to_output * cell)
        hidden = output * torch.tanh(cell)
        return LSTMState(hidden, cell), (input, forget, candidate, output)
