"""A cell's equations as a program."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from seqcells.equations.built_in import PARAMETERS
from seqcells.equations.catalogue import Kernel, constant
from seqcells.equations.program import Program, UntraceableError
from seqcells.equations.protocol import Recordable, Weights, factor_of, has_matrix, takes
from seqcells.equations.snapshots import is_plain_class
from seqcells.equations.tracing import traced
from seqcells.noise import Noise
from seqcells.state import flat_state, form_state

# The recording of each cell, while the cell is alive: not on the cell, which is copied and pickled.
RECORDED: weakref.WeakKeyDictionary[Recordable, Any] = weakref.WeakKeyDictionary()


def program(cell: Recordable) -> Program:
    """Return the cell's elementwise part, or its step if it has no matrix on the hidden state.

    Raises:
        UntraceableError: what no kernel can compute, and why.
    """
    return trace(cell)[0]


def trace(cell: Recordable) -> tuple[Program, list[str]]:
    """Return the cell's program, and the names of the parameters that it reads beside the products.

    Raises:
        UntraceableError: what no kernel can compute, and why.
    """
    state = cell.initial_state(2, device="cpu")  # where nothing waits for a device
    parts = flat_state(state)
    if len(parts) > 2 or any(part.shape != (2, cell.hidden_size) for part in parts):
        raise UntraceableError(
            f"{type(cell).__name__}: expected a state of one or two parts (B, H), got "
            f"{[tuple(part.shape) for part in parts]}"
        )

    if isinstance(state, tuple) and not is_plain_class(type(state)):
        raise UntraceableError(f"{type(state).__name__} has methods, which may read something else")

    def activate(
        given: dict[str, Tensor],
        from_input: Tensor,
        from_hidden: Tensor,
        parts: list[Tensor],
        *drop: Tensor,
    ) -> list[Tensor]:
        twin, before = with_parameters(cell, given), form_state(state, parts)
        if has_matrix(cell):
            new, _ = twin.activate(from_input, from_hidden, before, *drop)
        else:
            noise = [Noise(**{factor_of(cell): factor}) for factor in drop]
            weights = Weights(from_input, given.get("weight_hh"))  # a step reads no weight_ih
            new, _ = twin.step(weights, from_input, before, *noise)
        return flat_state(new)

    own = {
        name: torch.empty(value.shape, dtype=value.dtype) for name, value in own_parameters(cell)
    }
    return traced(
        activate,
        len(cell.gates),
        has_matrix(cell),
        cell.hidden_size,
        parts,
        own,
        takes(cell.step if factor_of(cell) == "hidden" else cell.activate, 4),
    )


def kernel_weights(kernel: Kernel, cell: Recordable, weights: Weights) -> Weights:
    """Return the weights as the cell's kernel takes them.

    The parameters that the step reads beside the products are in `parameters`, one row for each
    number per unit.
    """
    rows = []
    for name, count in (
        _own_counts(kernel.name) if kernel.number is not None else _recorded_counts(cell)
    ):
        value = weights.weight_hh if name == "weight_hh" else getattr(cell, name)
        if value is None:  # a cell without biases, by a kernel that adds them
            value = weights.weight_ih.new_zeros(count * cell.hidden_size)
        rows.append(value.reshape(-1, cell.hidden_size).to(weights.weight_ih.dtype))
    if not has_matrix(cell):
        weights = weights._replace(weight_hh=None)
    return weights._replace(parameters=torch.cat(rows) if rows else None)


@constant
def _recorded_counts(cell: Recordable) -> tuple[tuple[str, int], ...]:
    return tuple((name, 0) for name in RECORDED[cell].names)


@constant
def _own_counts(kernel: str) -> tuple[tuple[str, int], ...]:
    """Return the parameters that a built-in kernel reads, each with its numbers per unit."""
    return PARAMETERS.get(kernel, ())


def own_parameters(cell: Recordable) -> list[tuple[str, Tensor]]:
    """Return the parameters that the step reads beside the products."""
    names = [name for name, value in cell._parameters.items() if value is not None]
    names += _parametrized(cell)
    weights = cell.weights()._asdict()
    products = {name for name, value in weights.items() if value is not None}
    products -= set() if has_matrix(cell) else {"weight_hh"}
    return [(name, getattr(cell, name)) for name in names if name not in products]


def _parametrized(cell: Any) -> list[str]:
    return list(cell.parametrizations) if parametrize.is_parametrized(cell) else []


def with_parameters(cell: Recordable, parameters: dict[str, Tensor]) -> Recordable:
    """Return the cell with these tensors in its parameters' place."""
    kind: Any = type(cell).__bases__[0] if _parametrized(cell) else type(cell)
    twin: Recordable = kind.__new__(kind)
    vars(twin).update(vars(cell) | {"_parameters": {}} | parameters)
    return twin
