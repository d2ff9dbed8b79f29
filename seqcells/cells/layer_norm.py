"""LSTM and GRU with layer normalisation (Ba et al. 2016)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqcells.cells.base import GatedCell, Weights
from seqcells.cells.gru import GRUCell
from seqcells.cells.lstm import LSTMState
from seqcells.cells.variants import LSTMVariant
from seqcells.noise import kept

EPSILON = 1e-5  # as nn.LayerNorm


class _NormedCell(GatedCell):
    """A gated cell that norms its two products before it adds their biases.

    `norms` says how many gates, in their order, share each norm.
    """

    norms: tuple[int, ...]
    gain_ih: Tensor
    gain_hh: Tensor

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        rows = len(self.gates) * self.hidden_size
        return super().parameter_shapes() | {"gain_ih": (rows,), "gain_hh": (rows,)}

    def reset_parameters(self) -> None:
        """Weights and biases uniform in +-1/sqrt(H), gains 1, the shift of the cell state 0."""
        super().reset_parameters()
        for name, parameter in self.named_parameters():
            if name.startswith("gain"):
                nn.init.ones_(parameter)
            elif name.startswith("shift"):
                nn.init.zeros_(parameter)

    def weights(self) -> Weights:
        """Those of the products: the biases come after the norms."""
        return Weights(self.weight_ih, self.weight_hh)

    def _normed(self, product: Tensor, gain: Tensor, shift: Tensor | None) -> Tensor:
        blocks = product.split([gates * self.hidden_size for gates in self.norms], dim=-1)
        normed = torch.cat([F.layer_norm(b, b.shape[-1:], eps=EPSILON) for b in blocks], dim=-1)
        return normed * gain if shift is None else normed * gain + shift


class LayerNormLSTMCell(_NormedCell, LSTMVariant):
    r"""LSTM with layer normalisation (Ba, Kiros & Hinton, "Layer normalization", 2016)::

        i, f, g, o = gain_ih * LN(W_ih x) + b_ih + gain_hh * LN(W_hh h') + b_hh
        c = sigma(f) * c' + sigma(i) * tanh(g)
        h = sigma(o) * tanh(gain_cell * LN(c) + shift_cell)

    LN takes the mean from a row and divides by `sqrt(variance + 1e-5)`. The placement is the
    paper's: one norm over the 4H rows of each product, and one over c, which is carried on as it
    was. The paper's shifts of the two norms, and its bias, are `b_ih + b_hh` here, so that the
    functions are the same. Others norm the sum of the products, or each gate on its own: with
    their weights this cell computes something else.

    The arguments and state are `LSTMCell`'s without projection; parameters `weight_ih (4H, I)`,
    `weight_hh (4H, H)`, `bias_ih (4H)`, `bias_hh (4H)`, rows i, f, g, o, then `gain_ih (4H)`,
    `gain_hh (4H)`, `gain_cell (H)` and `shift_cell (H)`. Without `bias` there is no shift either.

    Parameter count: `4*H*(I + H + 4) + 2*H`.

    Raises:
        TypeError, ValueError: sizes that are no positive integers.
    """

    gates = ("input", "forget", "candidate", "output")
    kernel = "layer_norm_lstm"
    norms = (4,)
    gain_cell: Tensor
    shift_cell: Tensor | None

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        own = {"gain_cell": (self.hidden_size,), "shift_cell": None}
        if self.bias:
            own["shift_cell"] = (self.hidden_size,)
        return super().parameter_shapes() | own

    def activate(
        self,
        from_input: Tensor,
        from_hidden: Tensor,
        state: LSTMState,
        drop: Tensor | None = None,
    ) -> tuple[LSTMState, tuple[Tensor, ...]]:
        from_input = self._normed(from_input, self.gain_ih, self.bias_ih)
        from_hidden = self._normed(from_hidden, self.gain_hh, self.bias_hh)
        input, forget, candidate, output = (from_input + from_hidden).chunk(4, dim=-1)
        input = torch.sigmoid(input)
        forget = torch.sigmoid(forget)
        candidate = torch.tanh(candidate)
        output = torch.sigmoid(output)
        cell = forget * state.cell + input * kept(candidate, drop)
        normed = F.layer_norm(cell, cell.shape[-1:], self.gain_cell, self.shift_cell, EPSILON)
        hidden = output * torch.tanh(normed)
        return LSTMState(hidden, cell), (input, forget, candidate, output)


class LayerNormGRUCell(_NormedCell):
    r"""GRU with layer normalisation (Ba, Kiros & Hinton, "Layer normalization", 2016)::

        r, z = sigma(gain_ih * LN(W_ih x) + b_ih + gain_hh * LN(W_hh h') + b_hh)
        n = tanh(gain_in * LN(W_in x) + b_in + r * (gain_hn * LN(W_hn h') + b_hn))
        h = (1 - z) * n + z * h'

    LN takes the mean from a row and divides by `sqrt(variance + 1e-5)`. The placement is the
    paper's: of each product, one norm over the 2H rows of r and z and one over the H rows of n,
    the reset after the norm. z keeps, as in `GRUCell`; the paper's z is `1 - z` here. Its shifts
    are the biases, so that the functions are the same. Others norm each gate on its own, or all
    three together: with their weights this cell computes something else.

    The arguments and state are `GRUCell`'s; parameters `weight_ih (3H, I)`, `weight_hh (3H, H)`,
    `bias_ih (3H)`, `bias_hh (3H)`, rows r, z, n, then `gain_ih (3H)` and `gain_hh (3H)`.

    Parameter count: `3*H*(I + H + 4)`.

    Raises:
        TypeError, ValueError: sizes that are no positive integers.
    """

    gates = ("reset", "update", "candidate")
    kernel = "layer_norm_gru"
    norms = (2, 1)

    def activate(
        self, from_input: Tensor, from_hidden: Tensor, state: Tensor, drop: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        from_input = self._normed(from_input, self.gain_ih, self.bias_ih)
        from_hidden = self._normed(from_hidden, self.gain_hh, self.bias_hh)
        return GRUCell.activate(from_input, from_hidden, state, drop)
