"""Native steppers: layers that stay in memory and run one step per call (native/stepper.hpp)."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from seqcells.kernels.call import Call
from seqcells.kernels.cpu import library
from seqcells.kernels.cpu.library import Problem
from seqcells.kernels.cpu.problem import problem_of


class NativeStepper:
    """Layers whose weights are packed once. The state is kept in native memory.

    Args:
        calls: one call per layer, each a single step without lengths, resets and random noise.
            `step` trusts that inputs and outputs have its sizes and dtype and are contiguous.
        residual: add a layer's input to its output if their widths are equal.

    Raises:
        MemoryError: not enough memory for the packed weights.
    """

    def __init__(self, calls: Sequence[Call], residual: bool) -> None:
        loaded: Any = library.library()
        pairs = [problem_of(call) for call in calls]
        problems = (Problem * len(calls))(*(problem for problem, _ in pairs))
        self._references = [references for _, references in pairs]  # zoneout shares and programs
        self.handle = loaded.seqcells_stepper_create(
            problems, len(calls), residual, library.variant
        )
        if not self.handle:
            raise MemoryError("expected enough memory for the packed weights of a stepper")
        weakref.finalize(self, loaded.seqcells_stepper_destroy, self.handle)
        self.step = loaded.seqcells_stepper_step
        self._library = loaded
        for layer, call in enumerate(calls):
            self.set_state(layer, call.state)

    def set_state(self, layer: int, parts: Sequence[Tensor], rows: Tensor | None = None) -> None:
        """Set a layer's state, only in the rows where `rows (B,)` is true if it is given."""
        parts = [part.contiguous() for part in parts]
        mask = None if rows is None else rows.contiguous()
        pointer = None if mask is None else mask.data_ptr()
        self._library.seqcells_stepper_set(self.handle, layer, _pointers(parts), pointer)

    def get_state(self, layer: int, parts: Sequence[Tensor]) -> None:
        """Copy a layer's state into these contiguous tensors."""
        self._library.seqcells_stepper_get(self.handle, layer, _pointers(parts))


def _pointers(parts: Sequence[Tensor]) -> Any:
    return (ctypes.c_void_p * len(parts))(*(part.data_ptr() for part in parts))
