"""The elementwise part of a cell as Triton functions, and the sums that they read."""

from __future__ import annotations

import functools
import hashlib
import linecache
from typing import Any, NamedTuple, Self

from seqcells.equations.catalogue import Kernel
from seqcells.equations.program import CACHE_SIZE, Program
from seqcells.equations.slots import Slots
from seqcells.equations.step import step_of
from seqcells.kernels.triton import generated, reset_before
from seqcells.kernels.triton.source import IMPORTS, source_of


class Functor(NamedTuple):
    """The functions of a cell, and the slots of its sums as in native/functor.hpp.

    Attributes:
        saved_states: indices among the saved values of the state's parts after the first.
        late_slots: number of products that read a result of the other products.
        means: number of means over whole rows, forward and backward.
        exchanges: number of exchanges of partial sums for these means, forward and backward.
    """

    forward: Any
    backward: Any
    backward_late: Any
    slots: Slots
    saved_states: tuple[int, ...] = ()
    late_slots: int = 0
    means: tuple[int, int] = (0, 0)
    exchanges: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, module: Any, name: str, program: Program) -> Self:
        step = step_of(program)
        forward, backward = getattr(module, f"{name}_forward"), getattr(module, f"{name}_backward")
        levels = step.forward.means, step.backward.means
        means = len(levels[0]), len(levels[1])
        exchanges = len(set(levels[0])), len(set(levels[1]))
        saved_states = tuple(step.saved_states)
        return cls(forward, backward, None, step.slots, saved_states, 0, means, exchanges)

    @property
    def columns(self) -> tuple[int, ...]:
        """The column of `dz` that holds each slot's gradient.

        Gradients by input products come first, in the order of the gates. Those by separate hidden
        products follow.
        """
        inputs, separate = self.slots.inputs, len(self.slots.separate)
        return (*inputs, *(len(inputs) + n for n in range(separate)))

    @property
    def early_gates(self) -> tuple[int, ...]:
        """The gates whose hidden product depends on no other gate."""
        return self.slots.hidden[: len(self.slots.hidden) - self.late_slots]

    @property
    def late_gates(self) -> tuple[int, ...]:
        """The gates whose hidden product reads the result of another gate."""
        return self.slots.hidden[len(self.slots.hidden) - self.late_slots :]

    def column_of_hidden(self, gate: int) -> int:
        """Return the column of `dz` with the gradient by a gate's hidden product."""
        return self.columns[len(self.slots.separate) + self.slots.hidden.index(gate)]


@functools.lru_cache(maxsize=CACHE_SIZE)
def functor_of(kernel: Kernel) -> Functor:
    """Return the functor of a kernel, written from its program if it is not built in."""
    if kernel.handwritten:
        forward, backward, backward_late = (
            getattr(reset_before, f"{kernel.name}_{suffix}")
            for suffix in ("forward", "backward", "backward_late")
        )
        slots = Slots(shared=tuple(range(kernel.gates)))
        return Functor(forward, backward, backward_late, slots, late_slots=1)
    program = kernel.program
    if kernel.number is not None:
        return Functor.of(generated, kernel.name, program)
    module = _GeneratedModule(f"{IMPORTS}\n\n{source_of('custom', program)}\n")
    return Functor.of(module, "custom", program)


class _GeneratedModule:
    """A module executed from source text that Triton can inspect."""

    def __init__(self, text: str) -> None:
        name = f"<seqcells kernel {hashlib.sha256(text.encode()).hexdigest()[:16]}>"
        linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name
        vars(self)["__name__"] = name
        exec(compile(text, name, "exec"), vars(self))
