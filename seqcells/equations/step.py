"""A `Program` in both directions, and the values saved for the backward pass."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

from seqcells.equations.lowering import Lowered, Place, lower
from seqcells.equations.operations import OPERATIONS
from seqcells.equations.program import CACHED, Program, differentiate, is_number, postorder


class Slots(NamedTuple):
    """The sums that a step reads. A gate that only adds its two products has one sum."""

    separate: tuple[int, ...] = ()
    shared: tuple[int, ...] = ()
    inward: tuple[int, ...] = ()  # of gates without a product with the hidden state

    @property
    def total(self) -> int:
        return len(self.separate) + len(self.inputs)

    @property
    def inputs(self) -> tuple[int, ...]:
        return self.separate + self.shared + self.inward

    @property
    def hidden(self) -> tuple[int, ...]:
        return self.shared + self.separate

    def of(self, kind: str, gate: int) -> int:
        """Return the slot of `x<gate>` or `h<gate>`."""
        if gate in self.shared or kind == "x":
            return self.inputs.index(gate)
        return len(self.separate) + self.hidden.index(gate)


def slots_of(program: Program) -> Slots:
    if not program.hidden:
        return Slots(inward=tuple(range(program.gates)))
    alone = set()
    for operation, *operands in program.values:
        gates = {name[1:] for name in operands if name[0] in "xh"}
        kinds = sorted(name[0] for name in operands)
        if operation != "add" or len(gates) != 1 or kinds != ["h", "x"]:
            alone |= gates
    alone |= {name[1:] for name in program.results if name[0] in "xh"}
    separate = tuple(gate for gate in range(program.gates) if str(gate) in alone)
    return Slots(separate, tuple(gate for gate in range(program.gates) if gate not in separate))


@functools.lru_cache(maxsize=CACHED)
def step_of(program: Program) -> Step:
    """Return the step of a program, from a cache."""
    return Step(program)


class Step:
    """A program in both directions, `forward` and `backward`.

    The backward pass reads `kept` values saved per unit and step, `rows` values saved per row and
    step and, with `reads_after`, the hidden state after the step.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.slots = slots_of(program)
        writer, self._gradients = differentiate(program)
        self._values = writer.values
        self._saved: dict[str, None] = dict.fromkeys(program.results[1:])
        self._rows: dict[str, None] = {}
        self._row_values = self._rows_alone()
        self._lacks: list[set[str] | None] = [None] * len(self._values)  # results of `_lacking`
        self._end = 0  # past the last of them
        self.reads_after = False
        for needed in self._needed():
            self._provide(needed)
        self.forward = self._forward()
        self.backward = self._backward()

    @property
    def kept(self) -> int:
        return len(self._saved)

    @property
    def rows(self) -> int:
        return len(self._rows)

    @property
    def kept_cell(self) -> int:
        """The index of the state's second part among the saved values."""
        return [*self._saved].index(self.program.results[1]) if self.program.states > 1 else 0

    def unprojected(self) -> Lowered:
        """Return how the hidden state is recomputed from the saved values."""
        return lower(self._values, self._kept(), {("result", 0): self.program.results[0]})

    def _forward(self) -> Lowered:
        results: dict[Place, str] = {}
        results |= {("state", n): name for n, name in enumerate(self.program.results)}
        results |= {("keep", n): name for n, name in enumerate(self._saved)}
        results |= {("row", n): name for n, name in enumerate(self._rows)}
        known = self._sums() | self._given() | self._parts("s", "state", self.program.states)
        return lower(self._values, known, results, last=("state",))

    def _backward(self) -> Lowered:
        known = self._kept() | self._given() | self._parts("s", "before", self.program.states)
        known |= self._parts("g", "grad", self.program.states)
        found: dict[Place, str] = {}
        for kind, gates in (("x", self.slots.inputs), ("h", self.slots.separate)):
            for gate in gates:
                found["dz", self.slots.of(kind, gate)] = f"{kind}{gate}"
        found |= {("dp", n): f"p{n}" for n in range(self.program.parameters)}
        found |= {("grad", n): f"s{n}" for n in range(self.program.states)}
        results = {target: self._gradients[name] for target, name in found.items()}
        return lower(self._values, known, results, last=("grad",))

    # The inputs of a direction, by their names in the program.

    def _parts(self, kind: str, place: str, count: int) -> dict[str, Place]:
        return {f"{kind}{n}": (place, n) for n in range(count)}

    def _given(self) -> dict[str, Place]:
        return self._parts("p", "p", self.program.parameters) | {"d0": ("drop", 0)}

    def _sums(self) -> dict[str, Place]:
        found: dict[str, Place] = {}
        for gate in self.slots.separate:
            found |= {f"{kind}{gate}": ("z", self.slots.of(kind, gate)) for kind in "xh"}
        found |= {f"x{gate}": ("z", self.slots.of("x", gate)) for gate in self.slots.inward}
        for n, value in enumerate(self._values):
            if self._is_sum(value):
                found[f"v{n}"] = "z", self.slots.of("x", int(value[1][1:]))
        return found

    def _kept(self) -> dict[str, Place]:
        found: dict[str, Place] = {}
        if self.reads_after:
            found[self.program.results[0]] = "after", 0
        found |= {name: ("row", n) for n, name in enumerate(self._rows)}
        return found | {name: ("keep", n) for n, name in enumerate(self._saved)}

    def _is_sum(self, value: tuple[str, ...]) -> bool:
        return value[0] == "add" and value[1][0] == "x" and int(value[1][1:]) in self.slots.shared

    # A value is saved if recomputing it is costly and no part of the state is equal to it, or if it
    # cannot be recomputed from the other saved values.

    def _needed(self) -> list[str]:
        """Return the forward values and sums that the gradient reads."""
        own = len(self.program.values)

        def is_forward(name: str) -> bool:
            return name[0] in "xh" or (name[0] == "v" and int(name[1:]) < own)

        def operands(name: str) -> Sequence[str]:
            leaf = name[0] != "v" or is_forward(name)
            return () if leaf else self._values[int(name[1:])][1:]

        return [*filter(is_forward, postorder(self._gradients.values(), operands))]

    def _rows_alone(self) -> set[str]:
        """Return the values that are the same for all units of a row."""
        found: set[str] = set()
        for n, (operation, *operands) in enumerate(self._values):
            if operation == "mean" or all(is_number(name) or name in found for name in operands):
                found.add(f"v{n}")
        return found

    def _provide(self, name: str) -> None:
        """Save what the backward pass lacks of this value."""
        if name == self.program.results[0] and not self._is_known(name):
            self.reads_after = True
            self._forget(name)
        lacking = self._lacking(name)
        if len(lacking) == 1 and lacking != {name}:
            return self._provide(*lacking)
        if lacking:
            (self._rows if name in self._row_values else self._saved)[name] = None
            self._forget(name)
        return None

    def _is_known(self, name: str) -> bool:
        """Whether the backward pass is given a value."""
        if name[0] in "spdg" or is_number(name) or name in self._saved or name in self._rows:
            return True
        return name == self.program.results[0] and self.reads_after

    def _forget(self, name: str) -> None:
        """Drop the results for values that may depend on this one, which is now known."""
        first = int(name[1:]) if name[0] == "v" else 0
        for n in range(first, self._end):
            self._lacks[n] = None
        self._end = min(self._end, first)

    def _lacking(self, name: str) -> set[str]:
        """Return what would have to be saved to recompute this value, two names at most."""

        def found(name: str) -> set[str] | None:
            if self._is_known(name):
                return set()
            return {name} if name[0] != "v" else self._lacks[int(name[1:])]

        def operands(name: str) -> Sequence[str]:
            return self._values[int(name[1:])][1:] if found(name) is None else ()

        for inner in postorder([name], operands):
            if found(inner) is None:
                n = int(inner[1:])
                value = self._values[n]
                lacking = {lack for operand in value[1:] for lack in found(operand) or ()}
                alone = OPERATIONS[value[0]].costly and lacking
                if alone or self._is_sum(value) or value[0] == "mean":
                    lacking = {inner}
                self._lacks[n] = set(sorted(lacking)[:2])
                self._end = max(self._end, n + 1)
        return found(name) or set()
