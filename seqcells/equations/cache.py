"""Cache of recorded cells, validated against the values that the equations read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from seqcells.compatibility import (
    CONSTANT_MODULES,
    assume_constant,
    dispatch_modes,
    without_functions,
    without_modes,
)
from seqcells.equations.catalogue import COMPILED, Kernel, kernel_of
from seqcells.equations.dependencies import Dependencies
from seqcells.equations.program import UntraceableError
from seqcells.equations.protocol import Recordable, has_matrix
from seqcells.equations.recording import RECORDINGS, record
from seqcells.equations.step import step_of


class Recording(NamedTuple):
    """The result of recording a cell, and the values that it depends on.

    Attributes:
        fingerprint: the cell's class, plain attributes and parameter shapes.
        kernel: None if the cell cannot be recorded, for the `reason`.
        parameters: names of the parameters that the kernel reads outside the products.
        dependencies: the values that the equations read; None if the cell cannot be recorded.
        snapshot: these values at the time of recording.
    """

    fingerprint: Any
    kernel: Kernel | None = None
    reason: str = ""
    parameters: Sequence[str] = ()
    dependencies: Dependencies | None = None
    snapshot: Any = None

    def is_valid(self, cell: Recordable) -> bool:
        """Return whether recording the cell again would give the same result."""
        if self.fingerprint != _fingerprint(cell):
            return False
        if self.dependencies is None:  # the fallback to the loop is always valid
            return True
        try:
            return self.dependencies.snapshot() == self.snapshot
        except (UntraceableError, AttributeError, KeyError, ValueError):
            return False  # a dependency was deleted or can no longer be followed


def kernel_for(cell: Recordable) -> tuple[Kernel | None, str]:
    """Return the kernel of a cell's equations, or None and the reason.

    The cell is recorded on its first run, and again after a value that its `activate` reads has
    changed (`equations.dependencies`). Cells whose reads cannot be followed are not recorded.
    """
    compiling = torch.compiler.is_dynamo_compiling()
    if compiling and not CONSTANT_MODULES:
        return None, "torch.compile finds kernels of such cells from torch 2.13 on"
    kernel, reason = _cached_kernel(cell)
    if kernel is not None and compiling:
        if reason := _unguarded_read(cell):
            return None, reason
        _guard_reads(cell)
    return kernel, reason


def _guard_reads(cell: Recordable) -> None:
    """Run `activate` under Dynamo so that the graph is guarded on what it reads.

    Dynamo makes numbers that have changed symbolic, without a guard on their values. The comparison
    adds a guard.
    """
    for path, value in _numbers(cell):
        current: Any = cell
        for attribute in path:
            current = getattr(current, attribute)
        if current != value:
            raise AssertionError(
                f"expected {'.'.join(path)} to be {value} during compilation, got {current}"
            )
    zeros, H = cell._any_parameter().new_zeros, cell.hidden_size
    early = zeros(1, (len(cell.gates) - len(cell.late_gates)) * H) if has_matrix(cell) else None
    sums = zeros(1, len(cell.input_gates) * H)
    state = cell.initial_state(1, device=sums.device, dtype=sums.dtype)
    late = {"multiply": lambda _, *names: zeros(1, len(names) * H)} if cell.late_gates else {}
    cell.activate(sums, early, state, **late)


@assume_constant
def _numbers(cell: Recordable) -> tuple[tuple[tuple[str, ...], float], ...]:
    """Return the attribute path and the value of each number that `activate` reads on the cell."""
    getters = RECORDINGS[cell].dependencies.getters.items()
    reads = [
        (tuple(name.split(".")[1:]), get()) for (root, name), get in getters if root == id(cell)
    ]
    return tuple((path, value) for path, value in reads if type(value) in (int, float))


@assume_constant
def _unguarded_read(cell: Recordable) -> str:
    """Return why `torch.compile` cannot guard a value that `activate` reads, or ""."""
    for (root, name), get in RECORDINGS[cell].dependencies.getters.items():
        value, on_cell = get(), root == id(cell)
        if isinstance(value, (list, dict)) or (type(value) in (int, float) and not on_cell):
            return (
                f"{name}: torch.compile does not guard the value of numbers outside the cell or in "
                "lists and dicts; make it an attribute of the cell that is a number"
            )
    return ""


@assume_constant
def _cached_kernel(cell: Recordable) -> tuple[Kernel | None, str]:
    if dispatch_modes():  # in an export, tensors are fake
        with without_modes(), without_functions():
            return _cached_kernel(cell)
    recording: Recording | None = RECORDINGS.get(cell)
    if recording is None or not recording.is_valid(cell):
        recording = RECORDINGS[cell] = _record(cell)
    return recording.kernel, recording.reason


def _fingerprint(cell: Recordable) -> Any:
    """Return the cell's class, plain attributes and parameter shapes: cheap to compare."""
    plain = (bool, int, float, str)
    attributes = [(name, value) for name, value in vars(cell).items() if type(value) in plain]
    parameters = [(name, value) for name, value in cell._parameters.items() if value is not None]
    return type(cell), attributes, [(name, value.dtype, value.shape) for name, value in parameters]


def _record(cell: Recordable) -> Recording:
    fingerprint = _fingerprint(cell)
    try:
        if name := cell.overridden():
            raise UntraceableError(f"{type(cell).__name__} overrides {name}")
        dependencies = Dependencies.of(cell)
        snapshot = dependencies.snapshot()
        program, parameters = record(cell)
        step_of(program)
    except UntraceableError as reason:
        return Recording(fingerprint, reason=str(reason))
    except RecursionError:
        return Recording(
            fingerprint, reason="activate reads values that are nested too deeply for a kernel"
        )
    kernel = kernel_of(f"{COMPILED}{program}" if cell.compiles else str(program))
    return Recording(fingerprint, kernel, "", parameters, dependencies, snapshot)
