"""sLSTM: LSTM with exponential gating (Beck et al. 2024)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from seqcells.cells.base import GatedCell
from seqcells.noise import scale_candidate

EMPTY = -1e4  # the stabilizer before the first step: exp(EMPTY) is zero in every dtype


class SLSTMState(NamedTuple):
    """State of an sLSTM: four tensors `(B, H)`."""

    hidden: Tensor
    cell: Tensor
    normalizer: Tensor
    stabilizer: Tensor


class SLSTMCell(GatedCell):
    r"""sLSTM, an LSTM with exponential gating and a normalizer (Beck et al., "xLSTM: Extended
    long short-term memory", 2024)::

        i = exp(W_ii x + b_ii + W_hi h' + b_hi)
        f = sigma(W_if x + b_if + W_hf h' + b_hf)
        z =  tanh(W_iz x + b_iz + W_hz h' + b_hz)
        o = sigma(W_io x + b_io + W_ho h' + b_ho)
        c = f * c' + i * z
        n = f * n' + i
        h = o * c / n

    The exponential overflows, so c and n are stored divided by exp(m), with the stabilizer
    `m = max(log f + m', log i)`. The factors become `exp(log f + m' - m)` and `exp(log i - m)`, at
    most 1, and h is unchanged. The state is `(h, c, n, m)`, an `SLSTMState`.

    The paper also allows `f = exp(...)`, and has one bias per gate, here the sum of two. It divides
    the units into `heads`, whose recurrent matrices are blocks: `weight_hh` is `(4H, H / heads)`.

    `Zoneout` with one share also mixes stabilizers, which are no averages. Give it a share for the
    hidden state alone: `Zoneout(cell, SLSTMState(0.1, 0.0, 0.0, 0.0))`.

    Arguments are those of `LSTMCell` without projection. The parameters have the rows of four
    gates, in the order i, f, z, o.

    Parameter count: `4*H*(I + H + 2)`.

    Raises:
        TypeError, ValueError: sizes that are not positive integers.
    """

    gates = ("input", "forget", "candidate", "output")
    kernel = "slstm"
    _state_form = SLSTMState

    def initial_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> SLSTMState:
        """Return zeros `(B, H)`, and a stabilizer that gives the past no weight."""
        zeros = self._zeros(batch_size, self.hidden_size, device, dtype)
        return SLSTMState(zeros, zeros, zeros, zeros + EMPTY)

    @staticmethod
    def activate(
        from_input: Tensor, from_hidden: Tensor, state: SLSTMState, drop: Tensor | None = None
    ) -> tuple[SLSTMState, tuple[Tensor, ...]]:
        input, forget, candidate, output = (from_input + from_hidden).chunk(4, dim=-1)
        kept = F.logsigmoid(forget) + state.stabilizer
        stabilizer = torch.maximum(kept, input)
        input = torch.exp(input - stabilizer)
        forget = torch.exp(kept - stabilizer)
        candidate = torch.tanh(candidate)
        output = torch.sigmoid(output)
        cell = forget * state.cell + input * scale_candidate(candidate, drop)
        normalizer = forget * state.normalizer + input
        hidden = output * cell / normalizer
        gates = (input, forget, candidate, output)
        return SLSTMState(hidden, cell, normalizer, stabilizer), gates
