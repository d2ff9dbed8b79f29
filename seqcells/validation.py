"""Validation of inputs, and of the states and gates that cells return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from seqcells.state import State, autocast, check_dense, check_dtype, describe, rebuild

ANY_RANK = range(1, 65)  # PyTorch has tensors of up to 64 dimensions


def step_layout(features: int) -> str:
    """Return the expected shape of the input of one step, for error messages."""
    return f"(B, {features}), or ({features},) without a batch"


def sequence_layout(features: int, batch_first: bool) -> str:
    """Return the expected shape of a sequence, for error messages."""
    return f"({'B, T' if batch_first else 'T, B'}, {features}), or (T, {features}) without a batch"


def is_valid_input(input: Any, features: int, dtype: torch.dtype, ranks: Sequence[int]) -> bool:
    """Return whether this is a dense tensor of one of these ranks, with this width and dtype."""
    return (
        isinstance(input, Tensor)
        and input.layout is torch.strided
        and input.dim() in ranks
        and input.shape[-1] == features
        and input.dtype is dtype
    )


def check_input(
    input: Any, features: int, dtype: torch.dtype, ranks: Sequence[int], layout: str, name: str
) -> None:
    """Validate an input. The message states the expected shape, given in `layout`.

    Raises:
        TypeError: not a tensor.
        ValueError: a sparse tensor, or a wrong rank, number of features or dtype.
    """
    if not isinstance(input, Tensor):
        raise TypeError(
            f"{name}: expected a tensor, got {type(input).__name__}; {_conversion(input, layout)}"
        )
    check_dense(input, name)
    if not input.is_floating_point():
        check_dtype(input, dtype, name)
    shape, rank = tuple(input.shape), input.dim()
    if rank not in ranks:
        advice = "remove the extra dimensions with .squeeze() or .flatten()"
        if rank < min(ranks):
            advice = "add the missing dimensions with .unsqueeze()"
        elif max(ranks) == 2:
            advice = "run the cell over a sequence with Recurrent(cell)"
        raise ValueError(f"{name}: expected {layout}, got shape {shape}; {advice}")
    if shape[-1] != features:
        raise ValueError(
            f"{name}: expected {features} features, got {shape[-1]} in shape {shape}; pass "
            f"{layout}, or create the module with input_size={shape[-1]}"
        )
    check_dtype(input, dtype, name)


def _conversion(value: Any, layout: str) -> str:
    """Return how to make a tensor from a value of another type."""
    if type(value).__name__ == "PackedSequence":
        return "pad it with torch.nn.utils.rnn.pad_packed_sequence and pass lengths"
    if type(value).__name__ == "ndarray":
        return "convert it with torch.from_numpy()"
    return f"pass {layout}"


def missing_method(cell: Any, name: str, arguments: str) -> str:
    """Return the error message for a cell without the method that defines its equations."""
    kind = type(cell).__name__
    return f"{kind} has no {name} method: expected {name}({arguments}); define it in the class"


def check_step(cell: Any, result: Any, state: State, rows: int) -> tuple[State, Any]:
    """Return the next state, in the structure of `state`, and the gates of a gated cell's step.

    Raises:
        TypeError: `result` is not a state and gates, or the state has another structure.
        ValueError: the state has another shape or dtype.
    """
    pair = isinstance(result, (tuple, list)) and len(result) == 2
    if not pair or (type(result) is not tuple and hasattr(result, "_fields")):
        # A NamedTuple is the state alone.
        raise TypeError(
            f"{_method(cell)}: expected (next state, gates), got {describe(result)}; "
            f"{_example(cell)}"
        )
    new, gates = result
    if type(new) is Tensor and type(state) is Tensor:
        if new.shape != state.shape or new.dtype is not state.dtype:
            new = _conform_returned(cell, new, state, rows)
    else:
        new = _conform_returned(cell, new, state, rows)
    return new, gates


def _conform_returned(cell: Any, new: Any, state: State, rows: int, field: str = "") -> State:
    """Return a part of the next state, in the structure of the previous one."""
    where = f"{_method(cell)}: expected the next state{field}"
    if isinstance(state, Tensor):
        shape = (rows, *state.shape[1:])
        if not isinstance(new, Tensor):
            raise TypeError(
                f"{where} as a tensor of shape {shape}, got {describe(new)}; {_example(cell)}"
            )
        if new.shape != shape:
            raise ValueError(
                f"{where} of shape {shape}, got {tuple(new.shape)}; return the units of one gate "
                "for each row of the batch"
            )
        if new.dtype != state.dtype and not autocast(new):
            raise ValueError(
                f"{where} of {state.dtype}, the dtype of the previous one, got {new.dtype}; "
                f"convert it with .to({state.dtype})"
            )
        return new
    if not isinstance(new, (tuple, list)) or len(new) != len(state):
        raise TypeError(f"{where} as {describe(state)}, got {describe(new)}; {_example(cell)}")
    names = getattr(type(state), "_fields", range(len(state)))
    parts = [
        _conform_returned(cell, part, before, rows, f"{field}.{name}")
        for part, before, name in zip(new, state, names)
    ]
    return new if type(new) is type(state) else rebuild(state, parts)


def check_coefficients(cell: Any, result: Any, from_input: Tensor) -> tuple[Any, Any]:
    """Return the coefficients `(a, b)` and the gates of a linear cell.

    Raises:
        TypeError: `result` is not `((a, b), gates)`.
        ValueError: a or b has another shape than a gate.
    """
    pair = isinstance(result, (tuple, list)) and len(result) == 2
    if not pair or not isinstance(result[0], (tuple, list)) or len(result[0]) != 2:
        raise TypeError(
            f"{type(cell).__name__}.coefficients: expected ((a, b), gates), got "
            f"{describe(result)}; {_example(cell, '(a, b)')}"
        )
    coefficients, gates = result
    names = getattr(cell, "gates", None)
    if names is not None:
        shape = (*from_input.shape[:-1], from_input.shape[-1] // len(names))
        for part in coefficients:
            if not isinstance(part, Tensor) or part.shape not in (shape, (*shape[:-1], 1)):
                raise ValueError(
                    f"{type(cell).__name__}.coefficients: expected a and b of shape {shape}, got "
                    f"{describe(coefficients)}; {_example(cell, '(a, b)')}"
                )
    return coefficients, gates


def check_gates(cell: Any, gates: Any, from_input: Tensor) -> None:
    """Validate the gates of one step: one tensor per name, `(B, H)` or one number per row.

    `from_input` is the input product, H columns for each of the cell's input gates.

    Raises:
        TypeError: not a tuple of tensors.
        ValueError: a wrong number or a wrong shape.
    """
    names: Sequence[str] | None = getattr(cell, "gates", None)
    if names is None:  # the equations of a layer return no gates
        return
    rows, columns = from_input.shape
    shape = rows, columns // len(getattr(cell, "input_gates", names))
    if isinstance(gates, (tuple, list)) and len(gates) == len(names):
        for gate in gates:
            if not isinstance(gate, Tensor):
                break
            if gate.shape != shape and gate.shape != (rows, 1):
                break
        else:
            return
    _refuse_gates(cell, gates, names, shape)


def _refuse_gates(cell: Any, gates: Any, names: Sequence[str], shape: tuple[int, ...]) -> None:
    where = f"{_method(cell)}: expected"
    if not isinstance(gates, (tuple, list)) or not all(isinstance(gate, Tensor) for gate in gates):
        raise TypeError(
            f"{where} a tuple of tensors as gates, got {describe(gates)}; {_example(cell)}"
        )
    if len(gates) != len(names):
        raise ValueError(
            f"{where} {len(names)} gates, one for each name in {tuple(names)}, got {len(gates)}; "
            f"{_example(cell)}"
        )
    for name, gate in zip(names, gates):
        if gate.shape not in (shape, (shape[0], 1)):
            raise ValueError(
                f"{where} the gate {name!r} of shape {shape}, got {tuple(gate.shape)}; split the "
                f"gates with chunk({len(names)}, dim=-1)"
            )


def _method(cell: Any) -> str:
    """Return the name of the method that returned a step's result."""
    own = not type(cell).step.__module__.startswith("seqcells.")
    return f"{type(cell).__name__}.{'step' if own else 'activate'}"


def _example(cell: Any, returned: str = "state") -> str:
    """Return an example of the return statement of a step."""
    names = tuple(getattr(cell, "gates", ()))
    return f"write: return {returned}, ({', '.join(names)}{',' * (len(names) == 1)})"


def check_called(cell: Any, new: Any, before: State, *, same_shape: bool = False) -> Any:
    """Return the state that a cell returned; raise a TypeError for None or another structure.

    With `same_shape`, also raise a ValueError for other shapes.
    """
    if type(new) is Tensor and type(before) is Tensor and not same_shape:
        return new
    if new is None:
        raise TypeError(
            f"{_name(cell)}: expected the next state, a tensor or a tuple of tensors, got None; "
            "return the state from the cell's forward"
        )
    if before is not None and not _matches(new, before, same_shape):
        kind = "structure and shape" if same_shape else "structure"
        error: Callable[[str], Exception] = (
            ValueError if _matches(new, before, False) else TypeError
        )
        raise error(
            f"{_name(cell)}: expected the next state in the {kind} of the previous one, "
            f"{describe(before)}, got {describe(new)}; return a state of one structure at every "
            "step"
        )
    return new


def _name(cell: Any) -> str:
    """Return the name of a function, or of the class of a cell."""
    return getattr(cell, "__name__", type(cell).__name__)


def _matches(new: Any, before: State, same_shape: bool) -> bool:
    if isinstance(before, Tensor):
        return isinstance(new, Tensor) and (not same_shape or new.shape == before.shape)
    if not isinstance(before, (tuple, list)):
        return True  # only `output` reads a state of another type
    if not isinstance(new, (tuple, list)) or len(new) != len(before):
        return False
    return all(_matches(part, old, same_shape) for part, old in zip(new, before))


def check_output(cell: Any, output: Any, rows: int, first: Tensor | None) -> None:
    """Raise unless the output of a step has one row per row of the batch.

    `first` is the output of the first step. All outputs must have one shape.

    Raises:
        TypeError: not a tensor.
        ValueError: another number of rows, or another shape than at the first step.
    """
    if first is not None and type(output) is Tensor and output.shape == first.shape:
        return
    if not isinstance(output, Tensor):
        raise TypeError(
            f"{_name(cell)}: expected a tensor as the output of a step, got {describe(output)}; "
            "return it from output(state)"
        )
    if output.dim() == 0 or output.shape[0] != rows:
        raise ValueError(
            f"{_name(cell)}: expected an output with {rows} rows, one for each row of the batch, "
            f"got shape {tuple(output.shape)}; return a state of {rows} rows"
        )
    if first is not None and output.shape != first.shape:
        raise ValueError(
            f"{_name(cell)}: expected outputs of shape {tuple(first.shape)}, as at the first step, "
            f"got {tuple(output.shape)}; keep the size of the state from step to step"
        )
