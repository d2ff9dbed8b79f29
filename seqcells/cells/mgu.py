"""Minimal gated unit (Zhou et al. 2016)."""

from __future__ import annotations

import torch
from torch import Tensor

from seqcells.cells.base import GatedCell
from seqcells.equations.late import Multiply
from seqcells.noise import scale_candidate


class MGUCell(GatedCell):
    r"""Minimal gated unit (Zhou et al., "Minimal gated unit for recurrent neural networks", 2016)::

        f = sigma(W_if x + b_if + W_hf h' + b_hf)
        n =  tanh(W_in x + b_in + f * (W_hn h' + b_hn))       reset_after=True, as in our GRU
        n =  tanh(W_in x + b_in + W_hn (f * h') + b_hn)       reset_after=False, as published
        h = (1 - f) * h' + f * n

    A GRU whose reset and update gates are one gate f. The paper calls f the forget gate. Here it is
    named `gate`, because an open f replaces the state, whereas an open forget gate of the other
    cells keeps it.

    Arguments and state are those of `GRUCell`. The parameters have the rows of two gates, in the
    order f, n.

    Parameter count: `2*H*(I + H + 2)`.

    Raises:
        TypeError, ValueError: sizes that are not positive integers.
    """

    gates = ("gate", "candidate")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        reset_after: bool = True,
        heads: int = 1,
    ) -> None:
        self.reset_after = reset_after
        super().__init__(input_size, hidden_size, bias, device, dtype, heads=heads)

    @property
    def kernel(self) -> str:
        return "mgu" if self.reset_after else "mgu_reset_before"

    @property
    def late_gates(self) -> tuple[str, ...]:
        return () if self.reset_after else ("candidate",)

    @staticmethod
    def activate(
        from_input: Tensor,
        from_hidden: Tensor,
        state: Tensor,
        drop: Tensor | None = None,
        multiply: Multiply | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        input_gate, input_candidate = from_input.chunk(2, dim=-1)
        hidden_gate, *hidden = from_hidden.split(state.shape[-1], dim=-1)
        gate = torch.sigmoid(input_gate + hidden_gate)
        if multiply is None:
            hidden_candidate = gate * hidden[0]
        else:
            hidden_candidate = multiply(gate * state, "candidate")
        candidate = torch.tanh(input_candidate + hidden_candidate)
        hidden = (1 - gate) * state + gate * scale_candidate(candidate, drop)
        return hidden, (gate, candidate)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.reset_after else ", reset_after=False")
