"""Update gate RNN (Collins et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from seqcells.cells.base import GatedCell
from seqcells.noise import scale_candidate


class UGRNNCell(GatedCell):
    r"""Update gate RNN (Collins et al., "Capacity and trainability in recurrent neural networks",
    2017)::

        u = sigma(W_iu x + b_iu + W_hu h' + b_hu)
        n =  tanh(W_in x + b_in + W_hn h' + b_hn)
        h = u * h' + (1 - u) * n

    A GRU without the reset gate. The paper calls u the gate g, and has one bias per gate.

    Arguments are those of `LSTMCell` without projection, the state is `h`. The parameters have the
    rows of two gates, in the order u, n.

    Parameter count: `2*H*(I + H + 2)`.

    Raises:
        TypeError, ValueError: sizes that are not positive integers.
    """

    gates = ("update", "candidate")
    kernel = "ugrnn"

    @staticmethod
    def activate(
        from_input: Tensor, from_hidden: Tensor, state: Tensor, drop: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        update, candidate = (from_input + from_hidden).chunk(2, dim=-1)
        update = torch.sigmoid(update)
        candidate = torch.tanh(candidate)
        return update * state + (1 - update) * scale_candidate(candidate, drop), (update, candidate)
