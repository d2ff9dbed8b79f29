"""Validation of cells and their arguments."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from torch import nn

from seqcells.equations.protocol import takes as takes


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


def positive_integer(size: int, name: str) -> int:
    """Return `size`; raise an error with `name` unless it is an integer of at least 1."""
    if not isinstance(size, int) or isinstance(size, bool):
        raise TypeError(f"{name}: expected an integer, got {type(size).__name__}")
    if size < 1:
        raise ValueError(f"{name}: expected at least 1, got {size}")
    return size


def check_share(share: float, name: str) -> None:
    """Raise unless `share` is a number from 0 to 1."""
    if not isinstance(share, (int, float)) or isinstance(share, bool):
        raise TypeError(f"{name}: expected a number, got {type(share).__name__}")
    if not 0 <= share <= 1:
        raise ValueError(f"{name}: expected a number from 0 to 1, got {share}")


def overridden_method(cell: Any, base: type, names: Sequence[str]) -> str | None:
    """Return the first of these methods that the class or the instance overrides, or None."""
    for name in names:
        if getattr(type(cell), name) is not getattr(base, name) or name in vars(cell):
            return name
    return None
