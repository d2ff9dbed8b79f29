"""A `Program` in both directions, and what the one keeps for the other."""

from __future__ import annotations

import functools
from typing import NamedTuple

from seqcells.equations.lowering import Lowered, Place, lower
from seqcells.equations.program import CACHED, COSTLY, Program, differentiate, is_number


class Slots(NamedTuple):
    """Which sums a step needs: where a gate reads but the sum of its products, one is enough."""

    separate: tuple[int, ...] = ()
    shared: tuple[int, ...] = ()
    inward: tuple[int, ...] = ()  # of gates without a product with the hidden state

    @property
    def count(self) -> int:
        return len(self.separate) + len(self.inputs)

    @property
    def inputs(self) -> tuple[int, ...]:
        return self.separate + self.shared + self.inward

    @property
    def hidden(self) -> tuple[int, ...]:
        return self.shared + self.separate

    def of(self, kind: str, gate: int) -> int:
        """The slot of `x<gate>` or `h<gate>`."""
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
    """What a program's step is, worked out once."""
    return Step(program)


class Step:
    """A program in both directions: `forward`, `backward`, and what the one keeps for the other.

    `kept` values a unit and step are kept, and `rows` that are the same for all units.
    `reads_after`: the backward pass reads the hidden state after the step.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.slots = slots_of(program)
        writer, self._gradients = differentiate(program)
        self._values = writer.values
        self._saved = list(dict.fromkeys(program.results[1:]))
        self._rows: list[str] = []
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
        """Which of the kept values is the second part of the state."""
        return self._saved.index(self.program.results[1]) if self.program.states > 1 else 0

    def unprojected(self) -> Lowered:
        """The hidden state, once more, of what is kept."""
        return lower(self._values, self._kept(), {("result", 0): self.program.results[0]})

    def _forward(self) -> Lowered:
        results = {("state", n): name for n, name in enumerate(self.program.results)}
        results |= {("keep", n): name for n, name in enumerate(self._saved)}
        results |= {("row", n): name for n, name in enumerate(self._rows)}
        known = self._sums() | self._given() | self._parts("s", "state", self.program.states)
        return lower(self._values, known, results, last=("state",))

    def _backward(self) -> Lowered:
        known = self._kept() | self._given() | self._parts("s", "before", self.program.states)
        known |= self._parts("g", "grad", self.program.states)
        found = {}
        for kind, gates in (("x", self.slots.inputs), ("h", self.slots.separate)):
            for gate in gates:
                found["dz", self.slots.of(kind, gate)] = f"{kind}{gate}"
        found |= {("dp", n): f"p{n}" for n in range(self.program.parameters)}
        found |= {("grad", n): f"s{n}" for n in range(self.program.states)}
        results = {target: self._gradients[name] for target, name in found.items()}
        return lower(self._values, known, results, last=("grad",))

    # What a direction is given, by its name in the program.

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
        found = {self.program.results[0]: ("after", 0)} if self.reads_after else {}
        found |= {name: ("row", n) for n, name in enumerate(self._rows)}
        return found | {name: ("keep", n) for n, name in enumerate(self._saved)}

    def _is_sum(self, value: tuple[str, ...]) -> bool:
        return value[0] == "add" and value[1][0] == "x" and int(value[1][1:]) in self.slots.shared

    # What the backward pass keeps: what is costly to compute again, unless a part of the state
    # says it at once, and what nothing else that is kept says.

    def _needed(self) -> list[str]:
        """The forward values and sums that the gradient reads."""
        own = len(self.program.values)
        found: dict[str, None] = {}

        def visit(name: str) -> None:
            if name[0] in "xh" or (name[0] == "v" and int(name[1:]) < own):
                found[name] = None
            elif name[0] == "v":
                for operand in self._values[int(name[1:])][1:]:
                    visit(operand)

        for name in self._gradients.values():
            visit(name)
        return list(found)

    def _is_row(self, name: str) -> bool:
        """Whether a value is the same for all units of a row."""
        if is_number(name) or name[0] != "v":
            return is_number(name)
        operation, *operands = self._values[int(name[1:])]
        return operation == "mean" or all(map(self._is_row, operands))

    def _provide(self, name: str) -> None:
        if name in (*self._saved, *self._rows) or name[0] in "spdg" or is_number(name):
            return
        if name == self.program.results[0]:
            self.reads_after = True
            return
        lacking = self._lacking(name)
        if len(lacking) > 1 or lacking == {name}:
            (self._rows if self._is_row(name) else self._saved).append(name)
        else:
            for lack in lacking:
                self._provide(lack)

    def _lacking(self, name: str) -> set[str]:
        """What would have to be kept to compute this value again."""
        if name in (*self._saved, *self._rows) or name[0] in "spdg" or is_number(name):
            return set()
        if name[0] in "xh":
            return {name}
        if name == self.program.results[0] and self.reads_after:
            return set()
        value = self._values[int(name[1:])]
        if self._is_sum(value) or value[0] == "mean":
            return {name}
        if value[0] in COSTLY and any(self._lacking(operand) for operand in value[1:]):
            return {name}
        return set().union(*(self._lacking(operand) for operand in value[1:]))
