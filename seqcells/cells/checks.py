"""What a cell and its sizes have to be."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from torch import nn

from seqcells.equations.protocol import takes as takes


def check_cell(cell: Any) -> Any:
    """The cell, or a TypeError that says what a cell is."""
    wanted = "expected a cell, a callable (input, state) -> state"
    if isinstance(cell, type):
        raise TypeError(f"{wanted}, got the class {cell.__name__}; make an instance of it")
    function = cell.forward if isinstance(cell, nn.Module) else cell
    if not callable(cell) or function == nn.Module.forward.__get__(cell):
        raise TypeError(f"{wanted}, got {type(cell).__name__}")
    try:
        signature = inspect.signature(function)
    except ValueError:  # a builtin tells none: it shows at its first step
        return cell
    if isinstance(cell, nn.RNNBase) or "lengths" in signature.parameters:
        raise TypeError(f"{wanted}, got {type(cell).__name__}, which runs over time by itself")
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise TypeError(f"{wanted}, got {type(cell).__name__}: {error}") from error
    return cell


def positive_integer(size: int, name: str) -> int:
    """The size, or an error that names it."""
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
        raise ValueError(f"{name}: expected a share from 0 to 1, got {share}")


def replaced(cell: Any, base: type, names: Sequence[str]) -> str | None:
    """Return the first of these methods that is not the base class's own."""
    for name in names:
        if getattr(type(cell), name) is not getattr(base, name) or name in vars(cell):
            return name
    return None
