"""Validation of cells and their arguments."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from seqcells.equations.protocol import activate_takes, takes
from seqcells.state import State, conform_state, map_state


def check_cell(cell: Any) -> Any:
    """Return `cell`; raise a TypeError unless it can be called as `cell(input, state)`."""
    wanted = "expected a cell, a callable (input, state) -> state"
    if isinstance(cell, type):
        raise TypeError(f"{wanted}, got the class {cell.__name__}; pass an instance")
    function = cell.forward if isinstance(cell, nn.Module) else cell
    if not callable(cell) or function == nn.Module.forward.__get__(cell):
        raise TypeError(f"{wanted}, got {type(cell).__name__}")
    try:
        signature = inspect.signature(function)
    except ValueError:  # builtins may have no signature: their first call raises instead
        return cell
    if isinstance(cell, nn.RNNBase) or "lengths" in signature.parameters:
        raise TypeError(f"{wanted}, got {type(cell).__name__}, which runs over time itself")
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise TypeError(f"{wanted}, got {type(cell).__name__}: {error}") from error
    return cell


def check_definition(cell: Any, base: Any) -> None:
    """Validate the `gates` of a gated cell and the signature of its `activate`.

    A cell that overrides the `step` of `base` may call its `activate` with other arguments.

    Raises:
        TypeError: gates that are not a tuple of strings, or an `activate` with other arguments.
        ValueError: no gates, duplicate names, input gates that are not the first ones, or late
            gates that are not the last ones.
    """
    name, gates = f"{type(cell).__name__}.gates", getattr(cell, "gates", None)
    example = 'for example gates = ("update", "candidate")'
    if not isinstance(gates, (tuple, list)):
        got = repr(gates) if isinstance(gates, str) else type(gates).__name__
        raise TypeError(f"{name}: expected a tuple of names, got {got}; {example}")
    if not gates:
        raise ValueError(f"{name}: expected at least one name, got none; {example}")
    other = [gate for gate in gates if not isinstance(gate, str)]
    if other:
        raise TypeError(f"{name}: expected strings, got {other[0]!r} in {gates}; {example}")
    if len(set(gates)) != len(gates):
        raise ValueError(f"{name}: expected distinct names, got {gates}; rename the duplicates")
    for part in ("input_gates", "late_gates"):
        if not isinstance(names := getattr(cell, part), (tuple, list)):
            raise TypeError(
                f"{name[:-5]}{part}: expected a tuple of names, got {names!r}; for example "
                f"{part} = ({gates[-1]!r},)"
            )
    first, last, gates = tuple(cell.input_gates), tuple(cell.late_gates), tuple(gates)
    if not first or gates[: len(first)] != first:
        raise ValueError(f"{name[:-5]}input_gates: expected the first of {gates}, got {first}")
    if last and (len(last) == len(gates) or gates[-len(last) :] != last):
        raise ValueError(
            f"{name[:-5]}late_gates: expected the last of {gates}, but not all, got {last}"
        )
    if overridden_method(cell, base, ("step",)) is None and not activate_takes(cell, 3):
        more, fix = "", "add self as the first parameter, or @staticmethod before the method"
        if last:
            more = ", and multiply by name, for its late gates"
            fix = "add the parameters *, multiply" if takes(cell.activate, 3) else fix
        elif takes(cell.activate, 3, "multiply"):
            fix = "list the gates that it multiplies in late_gates"
        raise TypeError(
            f"{type(cell).__name__}.activate: expected (from_input, from_hidden, state){more}, got "
            f"{inspect.signature(cell.activate)}; {fix}"
        )


def batch_state(cell: Any, state: State, input: Tensor) -> State:
    """Return the state of an unbatched step as a batch of one row.

    Raises:
        TypeError, ValueError: the state's structure, shape or dtype differs from the cell's.
    """
    if not _fits(cell, state):  # only `conform_state` can tell
        fresh = cell.initial_state(1, device=input.device)
        state = conform_state(state, map_state(lambda part: part.squeeze(0), fresh))
    return map_state(lambda part: part.unsqueeze(0), state)


def matching_state(cell: Any, state: State, input: Tensor) -> State | None:
    """Return the state in the cell's structure, or None if only `conform_state` can tell."""
    form, rows, dtype = cell._state_form, input.shape[0], input.dtype
    if form is Tensor:
        fits = type(state) is Tensor and state.shape == (rows, cell.hidden_size)
        return state if fits and state.dtype is dtype else None
    if form is None or not isinstance(state, tuple) or len(state) != len(form._fields):
        return None
    width = cell.recurrent_size
    for part in state:
        if type(part) is not Tensor or part.shape != (rows, width) or part.dtype is not dtype:
            return None
        width = cell.hidden_size
    return state if type(state) is form else form(*state)


def _fits(cell: Any, state: State) -> bool:
    """Return whether an unbatched state is vectors of the cell's sizes."""
    if cell._state_form is Tensor:
        return isinstance(state, Tensor) and state.shape == (cell.hidden_size,)
    form = cell._state_form
    if form is None or not isinstance(state, tuple) or len(state) != len(form._fields):
        return False
    widths = [cell.recurrent_size, *[cell.hidden_size] * (len(state) - 1)]
    return all(
        isinstance(part, Tensor) and part.shape == (width,) for part, width in zip(state, widths)
    )


def positive_integer(size: int, name: str) -> int:
    """Return `size`; raise an error with `name` unless it is an integer of at least 1."""
    if not isinstance(size, int) or isinstance(size, bool):
        raise TypeError(f"{name}: expected an integer, got {type(size).__name__}")
    if size < 1:
        raise ValueError(f"{name}: expected at least 1, got {size}")
    return size


def check_heads(heads: int, hidden_size: int) -> int:
    """Return the number of heads; raise an error unless it divides the units."""
    positive_integer(heads, "heads")
    if hidden_size % heads:
        raise ValueError(
            f"heads: expected a divisor of hidden_size ({hidden_size}), got {heads}; choose sizes "
            "that divide evenly"
        )
    return heads


def check_share(share: float, name: str) -> None:
    """Raise unless `share` is a number from 0 to 1."""
    if not isinstance(share, (int, float)) or isinstance(share, bool):
        raise TypeError(f"{name}: expected a number, got {type(share).__name__}")
    if not 0 <= share <= 1:
        raise ValueError(f"{name}: expected a number from 0 to 1, got {share}")


def overridden_method(cell: Any, base: type, names: Sequence[str]) -> str | None:
    """Return the first of these methods that the class or the instance overrides, or None."""
    for name in names:
        if getattr(type(cell), name) is not getattr(base, name) or name in cell.__dict__:
            return name
    return None
