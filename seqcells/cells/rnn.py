"""Simple recurrent cell (Elman, "Finding structure in time", 1990)."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from seqcells.cells.base import GatedCell
from seqcells.cells.concatenated import concatenated, from_gates

NONLINEARITIES = {"tanh": torch.tanh, "relu": torch.relu}


class RNNCell(GatedCell):
    r"""Simple recurrent cell (Elman, "Finding structure in time", 1990)::

        h = phi(W_ih x + b_ih + W_hh h' + b_hh)

    phi is the tanh, or the relu with `nonlinearity="relu"`.

    On the concatenation `[h', x]` this is `h = phi(Wa [h', x] + ba)`. `to_concatenated` returns
    `Wa (H, H+I)` and `ba (H)`; `from_concatenated` builds a cell from them.

    Counterpart of `torch.nn.RNNCell`: the same arguments, parameters and initial values.

    Raises:
        TypeError, ValueError: sizes that are not positive integers, an unknown nonlinearity.
    """

    gates = ("hidden",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        heads: int = 1,
    ) -> None:
        if nonlinearity not in tuple(NONLINEARITIES):
            raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}")
        super().__init__(input_size, hidden_size, bias, device, dtype, heads=heads)
        self.nonlinearity = nonlinearity

    @property
    def kernel(self) -> str:
        return f"rnn_{self.nonlinearity}"

    def activate(
        self, from_input: Tensor, from_hidden: Tensor, state: Tensor
    ) -> tuple[Tensor, tuple[Tensor]]:
        phi = NONLINEARITIES[self.nonlinearity]
        hidden = phi(from_input + from_hidden)
        return hidden, (hidden,)

    def to_concatenated(self) -> dict[str, Tensor]:
        """Return the weights on `[hidden, input]`: `Wa`, and `ba`, the sum of the two biases."""
        (Wa,), (ba,) = concatenated(self)
        return {"Wa": Wa, "ba": ba}

    @classmethod
    def from_concatenated(cls, *, Wa: Tensor, ba: Tensor, nonlinearity: str = "tanh") -> Self:
        """Build a cell from these weights on `[hidden, input]`.

        Raises:
            ValueError: inconsistent shapes.
        """
        return from_gates(cls, [Wa], [ba], nonlinearity=nonlinearity)

    def extra_repr(self) -> str:
        shown = "" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}"
        return super().extra_repr() + shown
