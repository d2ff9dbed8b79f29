"""From a `Program` to numbers that native/interpreter.hpp reads as it runs."""

from __future__ import annotations

import functools
from array import array

from seqcells.equations.lowering import Lowered, Phase, Place
from seqcells.equations.program import CACHED, OPERATIONS, Program, UntraceableError
from seqcells.equations.step import step_of

# In the order of `Kind`, `Operation` and the sizes in native/interpreter.hpp.
KINDS = ("z", "state", "cell", "p", "drop", "keep", "row", "after", "grad", "grad_cell", "dz", "dp")
KINDS += ("temp", "mean", "sum")
OPERATION_NUMBERS = {
    name: number for number, name in enumerate(name for name in OPERATIONS if name != "mean")
}
REGISTERS, MEANS = 128, 32

# The second part of a state stands apart from the first.
SECOND = {"state": "cell", "before": "cell", "grad": "grad_cell"}


@functools.lru_cache(maxsize=CACHED)
def encode(program: Program) -> tuple[array[int], array[float]]:
    """The code, int32, and the numbers in it, float64.

    No tensors: under an export or a compiler these would be fake ones, and stay in the cache.

    Raises:
        UntraceableError: a program that needs more at once than the interpreter holds.
    """
    step = step_of(program)
    slots, numbers = step.slots, []
    forward, backward = (_direction(way, numbers) for way in (step.forward, step.backward))
    sizes = (
        slots.count,
        len(slots.inputs),
        len(slots.hidden),
        program.states,
        step.kept,
        step.rows,
    )
    temps = max(len(step.forward.temps), len(step.backward.temps))
    flags = (step.reads_after, program.drops)
    head = [*sizes, step.kept_cell, program.parameters, temps, *flags, len(forward)]
    code = [*head, *slots.inputs, *slots.hidden, *forward, *backward]
    return array("i", code), array("d", numbers)


def _direction(way: Lowered, numbers: list[float]) -> list[int]:
    found: dict[float, int] = {}
    for phase in way.phases:
        operands = [place for _, _, places in phase.values for place in places]
        for kind, value in (*operands, *(place for _, place in phase.stores)):
            if kind == "number":
                found.setdefault(value, len(found))
    if len(way.means) > MEANS:
        raise UntraceableError(f"expected at most {MEANS} means over a row, got {len(way.means)}")
    code = [len(way.phases), len(found), len(numbers)]
    numbers += found
    for phase in way.phases:
        code += _Registers(found).phase(phase)
    return code


class _Registers:
    """Gives each value of a phase a register for as long as it is needed."""

    def __init__(self, numbers: dict[float, int]) -> None:
        self.held: dict[Place, int] = {("number", value): n for value, n in numbers.items()}
        self.free = list(range(REGISTERS - 1, len(numbers) - 1, -1))
        self.loads: list[int] = []

    def phase(self, phase: Phase) -> list[int]:
        last = {}
        for n, (_, _, operands) in enumerate(phase.values):
            last |= dict.fromkeys(operands, n)
        last |= {place: len(phase.values) for _, place in phase.stores}
        for place in last:  # all loads come before all values
            if place[0] not in ("v", "number"):
                self.loads += [*_where(place), self.take(place)]
        instructions, stores = [], []
        for n, (number, operation, operands) in enumerate(phase.values):
            read = [self.held[operand] for operand in operands]
            for operand in set(operands):
                if last[operand] == n and operand[0] != "number":
                    self.free.append(self.held.pop(operand))
            to = self.take(("v", number))
            instructions += [OPERATION_NUMBERS[operation], to, *read, *[0] * (3 - len(read))]
        for target, place in phase.stores:
            stores += [*_where(target), self.held[place]]
        counts = [len(self.loads) // 3, len(instructions) // 5, len(stores) // 3]
        return [*counts, *self.loads, *instructions, *stores]

    def take(self, place: Place) -> int:
        if not self.free:
            raise UntraceableError(f"expected at most {REGISTERS} values at once")
        self.held[place] = self.free.pop()
        return self.held[place]


def _where(place: Place) -> tuple[int, int]:
    kind, index = place
    if kind in SECOND and index == 1:
        kind, index = SECOND[kind], 0
    return KINDS.index("state" if kind == "before" else kind), int(index)
