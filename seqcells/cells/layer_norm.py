"""LSTM and GRU with layer normalisation (Ba et al. 2016)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqcells.cells.base import GatedCell, Weights
from seqcells.cells.gru import GRUCell
from seqcells.cells.lstm import LSTMState
from seqcells.cells.variants import LSTMVariant
from seqcells.noise import scale_candidate

EPSILON = 1e-5  # as in nn.LayerNorm


class _LayerNormCell(GatedCell):
    """A gated cell that normalises its two products before adding their biases.

    `norms` is the number of gates, in gate order, that each normalisation spans.
    """

    norms: tuple[int, ...]
    gain_ih: Tensor
    gain_hh: Tensor

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        rows = len(self.gates) * self.hidden_size
        return super().parameter_shapes() | {"gain_ih": (rows,), "gain_hh": (rows,)}

    def reset_parameters(self) -> None:
        """Reinitialise in place: uniform in +-1/sqrt(H), gains 1, the shift of the cell state 0."""
        super().reset_parameters()
        for name, parameter in self.named_parameters():
            if name.startswith("gain"):
                nn.init.ones_(parameter)
            elif name.startswith("shift"):
                nn.init.zeros_(parameter)

    def weights(self) -> Weights:
        """Return the weights of the products. `activate` adds the biases after normalising."""
        return Weights(self.weight_ih, self.weight_hh)

    def _normalize(self, product: Tensor, gain: Tensor, shift: Tensor | None) -> Tensor:
        blocks = product.split([gates * self.hidden_size for gates in self.norms], dim=-1)
        normed = torch.cat([F.layer_norm(b, b.shape[-1:], eps=EPSILON) for b in blocks], dim=-1)
        return normed * gain if shift is None else normed * gain + shift


class LayerNormLSTMCell(_LayerNormCell, LSTMVariant):
    r"""LSTM with layer normalisation (Ba, Kiros & Hinton, "Layer normalization", 2016)::

        i, f, g, o = gain_ih * LN(W_ih x) + b_ih + gain_hh * LN(W_hh h') + b_hh
        c = sigma(f) * c' + sigma(i) * tanh(g)
        h = sigma(o) * tanh(gain_cell * LN(c) + shift_cell)

    LN subtracts the mean over the features and divides by `sqrt(variance + 1e-5)`. As in the
    paper, one normalisation spans the 4H rows of each product and one spans c; the state carries
    the unnormalised c. `b_ih + b_hh` is the sum of the paper's two shifts and its bias, so the
    functions are the same. Implementations that normalise the sum of the products, or each gate
    separately, compute another function of the same weights.

    Arguments and state are those of `LSTMCell` without projection. Parameters:
    `weight_ih (4H, I)`, `weight_hh (4H, H)`, `bias_ih (4H)`, `bias_hh (4H)`, with rows i, f, g, o,
    then `gain_ih (4H)`, `gain_hh (4H)`, `gain_cell (H)` and `shift_cell (H)`. `bias=False` also
    removes `shift_cell`.

    Parameter count: `4*H*(I + H + 4) + 2*H`.

    Raises:
        TypeError, ValueError: sizes that are not positive integers.
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
        from_input = self._normalize(from_input, self.gain_ih, self.bias_ih)
        from_hidden = self._normalize(from_hidden, self.gain_hh, self.bias_hh)
        input, forget, candidate, output = (from_input + from_hidden).chunk(4, dim=-1)
        input = torch.sigmoid(input)
        forget = torch.sigmoid(forget)
        candidate = torch.tanh(candidate)
        output = torch.sigmoid(output)
        cell = forget * state.cell + input * scale_candidate(candidate, drop)
        normed = F.layer_norm(cell, cell.shape[-1:], self.gain_cell, self.shift_cell, EPSILON)
        hidden = output * torch.tanh(normed)
        return LSTMState(hidden, cell), (input, forget, candidate, output)


class LayerNormGRUCell(_LayerNormCell):
    r"""GRU with layer normalisation (Ba, Kiros & Hinton, "Layer normalization", 2016)::

        r, z = sigma(gain_ih * LN(W_ih x) + b_ih + gain_hh * LN(W_hh h') + b_hh)
        n = tanh(gain_in * LN(W_in x) + b_in + r * (gain_hn * LN(W_hn h') + b_hn))
        h = (1 - z) * n + z * h'

    LN subtracts the mean over the features and divides by `sqrt(variance + 1e-5)`. As in the
    paper, each product has one normalisation over the 2H rows of r and z and one over the H rows
    of n, and the reset gate is applied after it. As in `GRUCell`, z is the share of the old state;
    the paper's z is `1 - z`. The paper's shifts are the biases, so the functions are the same.
    Implementations that normalise each gate separately, or all three together, compute another
    function of the same weights.

    Arguments and state are those of `GRUCell`. Parameters: `weight_ih (3H, I)`,
    `weight_hh (3H, H)`, `bias_ih (3H)`, `bias_hh (3H)`, with rows r, z, n, then `gain_ih (3H)` and
    `gain_hh (3H)`.

    Parameter count: `3*H*(I + H + 4)`.

    Raises:
        TypeError, ValueError: sizes that are not positive integers.
    """

    gates = ("reset", "update", "candidate")
    kernel = "layer_norm_gru"
    norms = (2, 1)

    def activate(
        self, from_input: Tensor, from_hidden: Tensor, state: Tensor, drop: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        from_input = self._normalize(from_input, self.gain_ih, self.bias_ih)
        from_hidden = self._normalize(from_hidden, self.gain_hh, self.bias_hh)
        return GRUCell.activate(from_input, from_hidden, state, drop)
