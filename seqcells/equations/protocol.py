"""The interface of cells that equations and kernels use."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from seqcells.state import State


class Weights(NamedTuple):
    """A cell's weights for one sequence: fetched once and equal at every step."""

    weight_ih: Tensor
    weight_hh: Any  # a matrix, a vector or None
    bias_ih: Tensor | None = None
    bias_hh: Tensor | None = None
    weight_hr: Tensor | None = None
    parameters: Tensor | None = None  # of a kernel: read outside the products


class Recordable(Protocol):
    """A module whose `activate` can be recorded as a program, such as a `GatedCell`."""

    gates: tuple[str, ...]
    hidden_size: int
    compiles: bool
    _parameters: dict[str, Any]

    @property
    def input_gates(self) -> tuple[str, ...]:
        """The first gates, which have a product with the input."""

    @property
    def late_gates(self) -> tuple[str, ...]:
        """The last gates, whose product with W_hh is computed by `activate`."""

    @property
    def activate(self) -> Callable[..., Any]:
        """The equations: `(from_input, from_hidden, state, *drop) -> (state, gates)`.

        With `late_gates` it also takes the function `multiply` (`equations.late`).
        """

    @property
    def step(self) -> Callable[..., Any]:
        """One step: `(weights, from_input, state, *noise) -> (state, gates)`."""

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        """Return the shape of each parameter by its name; None for a missing one."""

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
        """Return the name of an overridden method other than `activate`; None if there is none."""

    def _any_parameter(self) -> Tensor: ...


def has_matrix(cell: Recordable) -> bool:
    """Return whether weight_hh is a matrix. A vector holds one number per unit."""
    shape = cell.parameter_shapes()["weight_hh"]
    return shape is not None and len(shape) == 2


def factor_of(cell: Recordable) -> str:
    """Return the name of the part of a `Noise` that is `d0` in the cell's program.

    It is "hidden" if weight_hh is a vector: no matrix product reads the hidden state, so its factor
    is part of the elementwise equations. Otherwise it is "candidate".
    """
    shape = cell.parameter_shapes()["weight_hh"]
    return "hidden" if shape is not None and len(shape) == 1 else "candidate"


def takes_factor(cell: Recordable) -> bool:
    """Return whether the cell's equations take the factor that is `d0` in its program."""
    if factor_of(cell) == "hidden":
        return takes(cell.step, 4)
    return activate_takes(cell, 4)


def activate_takes(cell: Recordable, count: int) -> bool:
    """Return whether `activate` accepts so many positional arguments, and `multiply` if needed."""
    return takes(cell.activate, count, *(["multiply"] if cell.late_gates else []))


def takes(function: Callable[..., Any], count: int, *names: str) -> bool:
    """Return whether the function accepts so many positional arguments, and these by name."""
    try:
        inspect.signature(function).bind(*[None] * count, **dict.fromkeys(names))
    except TypeError:
        return False
    return True
