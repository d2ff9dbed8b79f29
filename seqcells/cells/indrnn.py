"""Independently recurrent cell (Li et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqcells.cells.base import GatedCell, Weights
from seqcells.cells.rnn import NONLINEARITIES
from seqcells.noise import Noise, scale_hidden


class IndRNNCell(GatedCell):
    r"""Independently recurrent cell, IndRNN (Li et al., "Independently recurrent neural network
    (IndRNN): building a longer and deeper RNN", 2018)::

        h = phi(W_ih x + b_ih + w_hh * h')

    phi is the relu, as published, or the tanh. Each unit is recurrent to itself alone. Units are
    mixed by the input weights of the next layer, so these cells are meant to be stacked.

    Parameters: `weight_ih (H, I)`, `weight_hh (H)` and, with `bias`, the paper's single bias
    `bias_ih (H)`.

    `weight_hh` is initialised uniformly in [0, 1], so that units differ in time scale; the other
    parameters as in `RNNCell`. The paper's upper limit for sequences of T steps is the T-th root
    of 2, which tends to 1. Two steps of the paper are left to the caller: clamping the recurrent
    weights to that limit after each update, for example by `clamp_(-1, 1)` under `no_grad`, and
    initialising those of the last layer near 1 if only the last output is used.

    Parameter count: `H*(I + 2)`.

    Raises:
        TypeError, ValueError: sizes that are not positive integers, an unknown nonlinearity.
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
        """Reinitialise in place: `weight_hh` uniform in [0, 1], the rest in +-1/sqrt(H)."""
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
        return self.activate(from_input, weights.weight_hh * scale_hidden(state, noise), state)

    def extra_repr(self) -> str:
        shown = "" if self.nonlinearity == "relu" else f", nonlinearity={self.nonlinearity}"
        return super().extra_repr() + shown
