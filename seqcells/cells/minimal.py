"""minGRU and minLSTM, whose gates depend only on the input (Feng et al. 2024)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seqcells.cells.linear import LinearCell


class MinGRUCell(LinearCell):
    r"""minGRU (Feng et al., "Were RNNs all we needed?", 2024)::

        z = sigma(W_iz x + b_iz)
        n =       W_in x + b_in
        h = (1 - z) * n + z * h'

    As in `GRUCell`, z is the share of the old state. The paper's z is `1 - z`; the function is the
    same.

    This is the paper's plain form. The paper's log-space form requires a positive n and applies a
    function g to it. The scan of `LinearCell` computes no logarithm, so n is linear and of any
    sign.

    Parameters: `weight_ih (2H, I)` and, with `bias`, `bias_ih (2H)`, rows z, n.

    Parameter count: `2*H*(I + 1)`.

    Raises:
        TypeError, ValueError: sizes that are not positive integers.
    """

    gates = ("update", "candidate")
    kernel = "min_gru"

    def coefficients(self, from_input: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, ...]]:
        update, candidate = from_input.chunk(2, dim=-1)
        update = torch.sigmoid(update)
        return (update, (1 - update) * candidate), (update, candidate)


class MinLSTMCell(LinearCell):
    r"""minLSTM (Feng et al., "Were RNNs all we needed?", 2024)::

        i = sigma(W_ii x + b_ii)
        f = sigma(W_if x + b_if)
        g =       W_ig x + b_ig
        h = f / (f + i) * h' + i / (f + i) * g

    The state is h alone. `trace` returns the normalised gates `i / (f + i)` and `f / (f + i)`. As
    in `MinGRUCell`, this is the paper's plain form, not the log-space form.

    Parameters: `weight_ih (3H, I)` and, with `bias`, `bias_ih (3H)`, rows i, f, g.

    Parameter count: `3*H*(I + 1)`.

    Raises:
        TypeError, ValueError: sizes that are not positive integers.
    """

    gates = ("input", "forget", "candidate")
    kernel = "min_lstm"

    def coefficients(self, from_input: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, ...]]:
        input, forget, candidate = from_input.chunk(3, dim=-1)
        # sigma(log f - log i) is f / (f + i), but avoids 0 / 0 if both gates are closed.
        odds = F.logsigmoid(forget) - F.logsigmoid(input)
        forget, input = torch.sigmoid(odds), torch.sigmoid(-odds)
        return (forget, input * candidate), (input, forget, candidate)
