"""A cell for the kernels in Triton: its equations, and the sums that they read."""

from __future__ import annotations

import functools
import hashlib
import linecache
from typing import Any, NamedTuple, Self

from seqcells.equations.catalogue import Kernel
from seqcells.equations.program import CACHED, Program
from seqcells.equations.step import Slots, step_of
from seqcells.kernels.triton import generated, late
from seqcells.kernels.triton.source import IMPORTS, source_of


class Functor(NamedTuple):
    """A cell's functions, and the slots of its sums as native/functor.hpp has them.

    `columns` says where each slot's gradient stands in `dz`: those by the inputs' products in the
    gates' own order, then those by the hidden state's where a gate keeps these apart.
    """

    forward: Any
    backward: Any
    late_backward: Any
    slots: Slots
    cell: int  # which of the kept values is the second part of the state
    late: int = 0
    # Forward and backward: how many means over whole rows, and after how many exchanges of sums.
    means: tuple[int, int] = (0, 0)
    exchanges: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, module: Any, name: str, program: Program) -> Self:
        step = step_of(program)
        forward, backward = (getattr(module, f"{name}_{way}") for way in ("forward", "backward"))
        levels = step.forward.means, step.backward.means
        means = len(levels[0]), len(levels[1])
        exchanges = len(set(levels[0])), len(set(levels[1]))
        return cls(forward, backward, None, step.slots, step.kept_cell, 0, means, exchanges)

    @property
    def columns(self) -> tuple[int, ...]:
        inputs, apart = self.slots.inputs, len(self.slots.separate)
        return (*inputs, *(len(inputs) + n for n in range(apart)))

    @property
    def earlier(self) -> tuple[int, ...]:
        """The gates whose product with the hidden state depends on no other."""
        return self.slots.hidden[: len(self.slots.hidden) - self.late]

    @property
    def later(self) -> tuple[int, ...]:
        return self.slots.hidden[len(self.slots.hidden) - self.late :]

    def column_of_hidden(self, gate: int) -> int:
        """Return the column of the gradient by a gate's product with the hidden state."""
        return self.columns[len(self.slots.separate) + self.slots.hidden.index(gate)]


@functools.lru_cache(maxsize=CACHED)
def functor_of(kernel: Kernel) -> Functor:
    """Return the functor of a kernel; Triton compiles those that are not built in."""
    if kernel.by_hand:
        ways = ("forward", "backward", "late_backward")
        forward, backward, later = (getattr(late, f"{kernel.name}_{way}") for way in ways)
        return Functor(
            forward, backward, later, Slots(shared=tuple(range(kernel.gates))), 0, late=1
        )
    program = kernel.program
    if kernel.number is not None:
        return Functor.of(generated, kernel.name, program)
    return Functor.of(_Written(f"{IMPORTS}\n\n{source_of('own', program)}\n"), "own", program)


class _Written:
    """A module from a text, whose functions Triton can inspect."""

    def __init__(self, text: str) -> None:
        name = f"<seqcells kernel {hashlib.sha256(text.encode()).hexdigest()[:16]}>"
        linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name
        vars(self)["__name__"] = name
        exec(compile(text, name, "exec"), vars(self))
