"""The gated recurrent unit (Cho et al. 2014)."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from seqcells.cells.base import GatedCell
from seqcells.cells.concatenated import concatenated, from_gates
from seqcells.equations.late import Multiply
from seqcells.noise import scale_candidate


class GRUCell(GatedCell):
    r"""Gated recurrent unit::

        r = sigma(W_ir x + b_ir + W_hr h' + b_hr)
        z = sigma(W_iz x + b_iz + W_hz h' + b_hz)
        n =  tanh(W_in x + b_in + r * (W_hn h' + b_hn))       reset_after=True, as in torch
        n =  tanh(W_in x + b_in + W_hn (r * h') + b_hn)       reset_after=False, as published
        h = (1 - z) * n + z * h'

    `reset_after=True` is the form of torch and cuDNN, `reset_after=False` the published one (Cho
    et al., "Learning phrase representations using RNN encoder-decoder for statistical machine
    translation", 2014).

    On the concatenation `[h', x]` and with `u = 1 - z`, the published form is
    `r = sigma(Wr [h', x] + br)`, `u = sigma(Wu [h', x] + bu)`,
    `n = tanh(Wa [r * h', x] + ba)`, `h = u * n + (1 - u) * h'`. `to_concatenated` returns the
    three matrices `(H, H+I)` and biases `(H)`; `from_concatenated` builds a cell from them.

    Counterpart of `torch.nn.GRUCell`: the same arguments, parameters (rows r, z, n) and initial
    values.

    Raises:
        TypeError, ValueError: sizes that are not positive integers.
    """

    gates = ("reset", "update", "candidate")

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
        return "gru" if self.reset_after else "gru_reset_before"

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
        input_reset, input_update, input_candidate = from_input.chunk(3, dim=-1)
        hidden_reset, hidden_update, *hidden = from_hidden.split(state.shape[-1], dim=-1)
        reset = torch.sigmoid(input_reset + hidden_reset)
        update = torch.sigmoid(input_update + hidden_update)
        if multiply is None:
            hidden_candidate = reset * hidden[0]
        else:
            hidden_candidate = multiply(reset * state, "candidate")
        candidate = torch.tanh(input_candidate + hidden_candidate)
        hidden = (1 - update) * scale_candidate(candidate, drop) + update * state
        return hidden, (reset, update, candidate)

    def to_concatenated(self) -> dict[str, Tensor]:
        """Return the weights on `[hidden, input]`: `Wr`, `br`, `Wu`, `bu`, `Wa`, `ba`.

        Raises:
            ValueError: `reset_after` is true.
        """
        if self.reset_after:
            raise ValueError(
                "expected a cell with reset_after=False, got reset_after=True: then the candidate "
                "is not a product with the concatenation; use the state dict"
            )
        (Wr, Wz, Wa), (br, bz, ba) = concatenated(self)
        return {"Wr": Wr, "br": br, "Wu": -Wz, "bu": -bz, "Wa": Wa, "ba": ba}

    @classmethod
    def from_concatenated(
        cls, *, Wr: Tensor, br: Tensor, Wu: Tensor, bu: Tensor, Wa: Tensor, ba: Tensor
    ) -> Self:
        """Build a cell from these weights on `[hidden, input]`, with `reset_after=False`.

        Raises:
            ValueError: inconsistent shapes.
        """
        return from_gates(cls, [Wr, -Wu, Wa], [br, -bu, ba], reset_after=False)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.reset_after else ", reset_after=False")
