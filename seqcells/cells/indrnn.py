"""The independently recurrent cell (Li et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqcells.cells.base import GatedCell, Weights
from seqcells.cells.rnn import NONLINEARITIES
from seqcells.noise import Noise, read


class IndRNNCell(GatedCell):
    r"""`h = phi(W_ih x + b_ih + w_hh * h')`, each unit recurrent to itself alone (Li et al.,
    "Independently recurrent neural network (IndRNN): building a longer and deeper RNN", 2018).

    phi is the relu, as published, or by request the tanh. What one unit knows of another, it
    learns in the next layer: these cells are made to be stacked.

    Parameters: `weight_ih (H, I)`, `weight_hh (H)` and, with `bias`, the paper's one bias,
    `bias_ih (H)`; there is no product with the state that a second one would belong to.

    The recurrent weights start uniform in [0, 1], so that the units remember over different
    lengths of time; the rest as in `RNNCell`. The paper's upper end, the T-th root of 2 for
    sequences of T steps, tends to 1. Two things it does besides are up to the caller: the weights
    stay within that bound after each step of training, as by `clamp_(-1, 1)` without gradient, and
    where only the last output is used, those of the last layer start near 1.

    Parameter count: `H*(I + 2)`.

    Raises:
        TypeError, ValueError: sizes that are no positive integers, an unknown nonlinearity.
    """

    gates = ("hidden",)

    @property
    def kernel(self) -> str:
        return f"indrnn_{self.nonlinearity}"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        nonlinearity: str = "relu",
    ) -> None:
        if nonlinearity not in tuple(NONLINEARITIES):
            raise ValueError(f"nonlinearity: expected 'relu' or 'tanh', got {nonlinearity!r}")
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        return super().parameter_shapes() | {"weight_hh": (self.hidden_size,), "bias_hh": None}

    def reset_parameters(self) -> None:
        """Draw every parameter anew: `weight_hh` uniform in [0, 1], the rest in +-1/sqrt(H)."""
        super().reset_parameters()
        nn.init.uniform_(self.weight_hh)

    def activate(
        self, from_input: Tensor, from_hidden: Tensor, state: Tensor
    ) -> tuple[Tensor, tuple[Tensor]]:
        phi = NONLINEARITIES[self.nonlinearity]
        hidden = phi(from_input + from_hidden)
        return hidden, (hidden,)

    def step(
        self, weights: Weights, from_input: Tensor, state: Tensor, noise: Noise | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self.activate(from_input, weights.weight_hh * read(state, noise), state)

    def extra_repr(self) -> str:
        shown = "" if self.nonlinearity == "relu" else f", nonlinearity={self.nonlinearity}"
        return super().extra_repr() + shown
