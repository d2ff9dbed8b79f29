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
from seqcells.kernels.triton import generated
from seqcells.kernels.triton.source import IMPORTS, source_of


class Functor(NamedTuple):
    """The functions of a cell (source.py), and the slots of its sums as in native/functor.hpp.

    Attributes:
        operand: operand of a stage of late products; None without stages.
        late_gradient: gradient by the sums of a stage; None without stages.
        saved_states: indices among the saved values of the state's parts after the first.
        means: number of means over whole rows, forward and backward.
        exchanges: number of exchanges of partial sums for these means, forward and backward.
    """

    forward: Any
    backward: Any
    operand: Any
    late_gradient: Any
    slots: Slots
    saved_states: tuple[int, ...]
    means: tuple[int, int]
    exchanges: tuple[int, int]

    @classmethod
    def of(cls, module: Any, name: str, program: Program) -> Self:
        step = step_of(program)
        names = "forward", "backward", "operand", "late_gradient"
        forward, backward, operand, late_gradient = (
            getattr(module, f"{name}_{suffix}", None) for suffix in names
        )
        levels = step.forward.means, step.backward.means
        means = len(levels[0]), len(levels[1])
        exchanges = len(set(levels[0])), len(set(levels[1]))
        states = tuple(step.saved_states)
        return cls(forward, backward, operand, late_gradient, step.slots, states, means, exchanges)

    @property
    def columns(self) -> tuple[int, ...]:
        """The column of `dz` that holds each slot's gradient.

        Gradients by input products come first, in the order of the gates. Those by hidden products
        alone follow, in the same order.
        """
        inputs, unshared = self.slots.inputs, self.slots.unshared
        return (*inputs, *(len(inputs) + sorted(unshared).index(gate) for gate in unshared))

    @property
    def stages(self) -> int:
        """The number of stages of late products."""
        return len(self.slots.stages) - 1

    def column_of_hidden(self, gate: int) -> int:
        """Return the column of `dz` with the gradient by a gate's hidden product."""
        return self.columns[self.slots.of("h", gate)]

    def stage_of(self, gate: int) -> int:
        """Return the index in `slots.stages` of a gate's hidden product."""
        return next(n for n, gates in enumerate(self.slots.stages) if gate in gates)


@functools.lru_cache(maxsize=CACHE_SIZE)
def functor_of(kernel: Kernel) -> Functor:
    """Return the functor of a kernel, written from its program if it is not built in."""
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
