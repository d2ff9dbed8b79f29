"""Record a cell's equations as a program."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from seqcells.compatibility import assume_constant, replace
from seqcells.equations.built_in import PARAMETERS
from seqcells.equations.catalogue import Kernel
from seqcells.equations.program import MOST_PARTS, Program, UntraceableError
from seqcells.equations.protocol import (
    Recordable,
    Weights,
    factor_of,
    has_matrix,
    takes_factor,
)
from seqcells.equations.recorder import Gates
from seqcells.equations.snapshots import is_plain_class
from seqcells.equations.tracing import trace_activate
from seqcells.noise import Noise
from seqcells.state import flat_state, form_state
from seqcells.validation import check_gates, check_step

# The recording of each live cell. It is not stored on the cell, which may be copied and pickled.
RECORDINGS: weakref.WeakKeyDictionary[Recordable, Any] = weakref.WeakKeyDictionary()


def program(cell: Recordable) -> Program:
    """Return the program of the cell's elementwise part, or of its step if weight_hh is no matrix.

    Raises:
        UntraceableError: no kernel can compute the equations.
    """
    return record(cell)[0]


def record(cell: Recordable) -> tuple[Program, list[str]]:
    """Return the cell's program, and the names of the parameters read outside the products.

    Raises:
        UntraceableError: no kernel can compute the equations.
    """
    state = cell.initial_state(2, device="cpu")  # avoids waiting for a GPU
    parts = flat_state(state)
    if len(parts) > MOST_PARTS or any(part.shape != (2, cell.hidden_size) for part in parts):
        raise UntraceableError(
            f"{type(cell).__name__}: expected a state of at most {MOST_PARTS} parts (B, H), got "
            f"{[tuple(part.shape) for part in parts]}"
        )

    if isinstance(state, tuple) and not is_plain_class(type(state)):
        raise UntraceableError(f"{type(state).__name__} has methods, whose reads are not followed")

    def activate(
        parameters: dict[str, Tensor],
        from_input: Tensor,
        from_hidden: Tensor,
        parts: list[Tensor],
        *drop: Tensor,
        **multiply: Any,
    ) -> list[Tensor]:
        substitute, before = substitute_parameters(cell, parameters), form_state(state, parts)
        if has_matrix(cell):
            result = substitute.activate(from_input, from_hidden, before, *drop, **multiply)
        else:
            noise = [Noise(**{factor_of(cell): factor}) for factor in drop]
            weights = Weights(from_input, parameters.get("weight_hh"))  # a step reads no weight_ih
            result = substitute.step(weights, from_input, before, *noise)
        new, gates = check_step(cell, result, before, from_input.shape[0])
        check_gates(cell, gates, from_input)
        return flat_state(new)

    parameters = {
        name: torch.empty(value.shape, dtype=value.dtype) for name, value in step_parameters(cell)
    }
    return trace_activate(
        activate,
        Gates(cell.gates, len(cell.input_gates), cell.late_gates, has_matrix(cell)),
        cell.hidden_size,
        parts,
        parameters,
        takes_factor(cell),
    )


def kernel_weights(
    kernel: Kernel, cell: Recordable, weights: Weights, dtype: torch.dtype | None = None
) -> Weights:
    """Return the weights in the form of the cell's kernel, with parameters of this dtype.

    `parameters` holds the parameters that the step reads outside the products, with one row for
    each number per unit.
    """
    rows, dtype = [], dtype or weights.weight_ih.dtype
    for name, count in (
        _built_in_counts(kernel.name) if kernel.number is not None else _recorded_counts(cell)
    ):
        value = weights.weight_hh if name == "weight_hh" else getattr(cell, name)
        if value is None:  # the kernel adds biases, and the cell has none
            value = weights.weight_ih.new_zeros(count * cell.hidden_size, dtype=dtype)
        rows.append(value.reshape(-1, cell.hidden_size).to(dtype))
    if not has_matrix(cell):
        weights = replace(weights, weight_hh=None)
    return replace(weights, parameters=torch.cat(rows) if rows else None)


@assume_constant
def _recorded_counts(cell: Recordable) -> tuple[tuple[str, int], ...]:
    return tuple((name, 0) for name in RECORDINGS[cell].parameters)


@assume_constant
def _built_in_counts(kernel: str) -> tuple[tuple[str, int], ...]:
    """Return the parameters that a built-in kernel reads, with their numbers per unit."""
    return PARAMETERS.get(kernel, ())


def step_parameters(cell: Recordable) -> list[tuple[str, Tensor]]:
    """Return the parameters that are not factors or biases of the products."""
    names = [name for name, value in cell._parameters.items() if value is not None]
    names += _parametrized(cell)
    weights = cell.weights()._asdict()
    products = {name for name, value in weights.items() if value is not None}
    products -= set() if has_matrix(cell) else {"weight_hh"}
    return [(name, getattr(cell, name)) for name in names if name not in products]


def _parametrized(cell: Any) -> list[str]:
    return list(cell.parametrizations) if parametrize.is_parametrized(cell) else []


def substitute_parameters(cell: Recordable, parameters: dict[str, Tensor]) -> Recordable:
    """Return a copy of the cell with these tensors instead of its parameters."""
    kind: Any = type(cell).__bases__[0] if _parametrized(cell) else type(cell)
    substitute: Recordable = kind.__new__(kind)
    vars(substitute).update(vars(cell) | {"_parameters": {}} | parameters)
    return substitute
