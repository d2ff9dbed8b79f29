"""The interface of cells towards equations and kernels."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from seqcells.state import State


class Weights(NamedTuple):
    """A cell's weights as one sequence uses them: fetched once, the same at every step."""

    weight_ih: Tensor
    weight_hh: Any  # the cell's own: a matrix, a vector, None
    bias_ih: Tensor | None = None
    bias_hh: Tensor | None = None
    weight_hr: Tensor | None = None
    parameters: Tensor | None = None  # for a kernel: those that the step reads beside the products


class Recordable(Protocol):
    """A module whose `activate` can be recorded as a program, such as a `GatedCell`."""

    gates: tuple[str, ...]
    hidden_size: int
    compiles: bool
    _parameters: dict[str, Any]

    @property
    def activate(self) -> Callable[..., Any]:
        """The equations: `(from_input, from_hidden, state, *drop) -> (state, gates)`."""

    @property
    def step(self) -> Callable[..., Any]:
        """One step: `(weights, from_input, state, *noise) -> (state, gates)`."""

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        """Return the shape of each parameter by its name, None for one that is missing."""

    def weights(self) -> Weights:
        """Return the weights of one sequence."""

    def initial_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """Return the state before the first step."""

    def overridden(self) -> str | None:
        """Return a method besides `activate` that differs from the base class's, if any."""

    def _any_parameter(self) -> Tensor: ...


def has_matrix(cell: Recordable) -> bool:
    """Whether there is a product with the hidden state; a vector is one number per unit."""
    shape = cell.parameter_shapes()["weight_hh"]
    return shape is not None and len(shape) == 2


def factor_of(cell: Recordable) -> str:
    """Return the part of a `Noise` that is `d0` in the cell's program.

    It is the candidate, except in cells whose hidden state is multiplied by a vector. There no
    product reads the hidden state, and its factor is part of the elementwise equations.
    """
    shape = cell.parameter_shapes()["weight_hh"]
    return "hidden" if shape is not None and len(shape) == 1 else "candidate"


def takes(function: Callable[..., Any], count: int) -> bool:
    """Whether the function can be called with this number of arguments."""
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    return True
