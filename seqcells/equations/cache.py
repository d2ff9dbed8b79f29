"""The cache of recorded cells: each recording, and whether it still holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import _disable_current_modes

from seqcells.equations.catalogue import COMPILED, Kernel, constant, kernel_of
from seqcells.equations.dependencies import Dependencies
from seqcells.equations.program import UntraceableError
from seqcells.equations.protocol import Recordable, has_matrix
from seqcells.equations.recording import RECORDED, trace
from seqcells.equations.step import step_of


class Found(NamedTuple):
    """The result of recording a cell, with what it was recorded from."""

    made_from: Any
    kernel: Kernel | None = None
    reason: str = ""
    names: Sequence[str] = ()  # of the parameters that the kernel reads
    reads: Dependencies | None = None  # of a recorded cell
    values: Any = None  # their snapshot

    def holds(self, cell: Recordable) -> bool:
        """Whether recording the cell would give the same result."""
        if self.made_from != _plain(cell):
            return False
        if self.reads is None:  # not recorded: the loop is right, whatever has changed
            return True
        try:
            return self.reads.snapshot() == self.values
        except (UntraceableError, AttributeError, KeyError, ValueError):
            return False  # something that was read has gone, or cannot be followed any more


def kernel_for(cell: Recordable) -> tuple[Kernel | None, str]:
    """Return the kernel of a cell's own equations, or None and the reason.

    The cell is recorded when it is first run, and again whenever anything that its `activate` read
    has changed (`equations.dependencies`). A cell whose reads cannot be followed is not recorded.
    """
    kernel, reason = _recorded(cell)
    if kernel is not None and torch.compiler.is_dynamo_compiling():
        if reason := _unguarded(cell):
            return None, reason
        _read_again(cell)
    return kernel, reason


def _read_again(cell: Recordable) -> None:
    """Run `activate` under Dynamo so that the graph is guarded on what it reads.

    Dynamo makes a number that has changed symbolic, without a guard on its value; comparing it adds
    one.
    """
    for path, value in _numbers(cell):
        found: Any = cell
        for attribute in path:
            found = getattr(found, attribute)
        if found != value:
            raise AssertionError(f"expected {'.'.join(path)} to be {value} while it is compiled")
    sums = cell._any_parameter().new_zeros(1, len(cell.gates) * cell.hidden_size)
    state = cell.initial_state(1, device=sums.device, dtype=sums.dtype)
    cell.activate(sums, sums if has_matrix(cell) else None, state)


@constant
def _numbers(cell: Recordable) -> tuple[tuple[tuple[str, ...], float], ...]:
    """Return the numbers that `activate` reads from the cell, by their paths."""
    reads = RECORDED[cell].reads.reads.items()
    found = ((tuple(name.split(".")[1:]), get()) for (root, name), get in reads if root == id(cell))
    return tuple((path, value) for path, value in found if type(value) in (int, float))


@constant
def _unguarded(cell: Recordable) -> str:
    """Return why no guard of a compiled graph covers a value that `activate` reads, or ""."""
    for (root, name), get in RECORDED[cell].reads.reads.items():
        value, own = get(), root == id(cell)
        if isinstance(value, (list, dict)) or (type(value) in (int, float) and not own):
            return (
                f"{name}: torch.compile does not guard the value of numbers outside the cell or in "
                "lists and dicts; keep it as a number on self"
            )
    return ""


@constant
def _recorded(cell: Recordable) -> tuple[Kernel | None, str]:
    if torch._C._len_torch_dispatch_stack():  # as of an export, whose tensors hold no numbers
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            return _recorded(cell)
    found: Found | None = RECORDED.get(cell)
    if found is None or not found.holds(cell):
        found = RECORDED[cell] = _found(cell)
    return found.kernel, found.reason


def _plain(cell: Recordable) -> Any:
    """Return the cell's class, plain attributes and parameter shapes, cheap to compare."""
    plain = (bool, int, float, str)
    attributes = [(name, value) for name, value in vars(cell).items() if type(value) in plain]
    own = [(name, value) for name, value in cell._parameters.items() if value is not None]
    return type(cell), attributes, [(name, value.dtype, value.shape) for name, value in own]


def _found(cell: Recordable) -> Found:
    made_from = _plain(cell)
    try:
        if name := cell.overridden():
            raise UntraceableError(f"{type(cell).__name__} has a {name} of its own")
        reads = Dependencies.of(cell)
        values = reads.snapshot()
        found, names = trace(cell)
        step_of(found)
    except UntraceableError as reason:
        return Found(made_from, reason=str(reason))
    except RecursionError:
        return Found(
            made_from, reason="activate reads values that are nested too deeply for a kernel"
        )
    kernel = kernel_of(f"{COMPILED}{found}" if cell.compiles else str(found))
    return Found(made_from, kernel, "", names, reads, values)
