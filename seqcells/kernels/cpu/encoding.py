"""Encode a `Program` for native/interpreter.hpp."""

from __future__ import annotations

import functools
from array import array

from seqcells.equations.lowering import Lowered, Phase, Place
from seqcells.equations.operations import OPCODES, OPERATIONS
from seqcells.equations.program import CACHED, Program, UntraceableError
from seqcells.equations.step import step_of

# In the order of `Kind` and the sizes in native/interpreter.hpp.
KINDS = (
    *("z", "state", "cell", "p", "drop", "keep", "row", "after"),
    *("grad", "grad_cell", "dz", "dp", "temp", "mean", "sum", "number"),
)
REGISTERS, MEANS = 128, 32
SEGMENT = 16  # values, in a phase that has too many for one

# The second part of a state stands apart from the first.
SECOND = {"state": "cell", "before": "cell", "grad": "grad_cell"}


@functools.lru_cache(maxsize=CACHED)
def encode(program: Program) -> tuple[array[int], array[float]]:
    """Return the code, int32, and its numbers, float64.

    They are no tensors: under an export or a compiler these would be fake, and stay in the cache.

    Raises:
        UntraceableError: a program with more means or results than the interpreter supports.
    """
    step = step_of(program)
    slots, numbers = step.slots, list[float]()
    ways = [_direction(way, numbers) for way in (step.forward, step.backward)]
    (forward, _), (backward, _) = ways
    sizes = (
        slots.total,
        len(slots.inputs),
        len(slots.hidden),
        program.states,
        step.kept,
        step.rows,
    )
    temps = max(temps for _, temps in ways)
    flags = (step.reads_after, program.drops)
    head = [*sizes, step.kept_cell, program.parameters, temps, *flags, len(forward)]
    code = [*head, *slots.inputs, *slots.hidden, *forward, *backward]
    return array("i", code), array("d", numbers)


def _direction(way: Lowered, numbers: list[float]) -> tuple[list[int], int]:
    """Return the code of one direction and how many temps it has, and append its numbers.

    Each phase is one segment, and the numbers stay in registers. If the registers do not suffice,
    the phases are divided into segments, each of which loads its numbers.
    """
    if len(way.means) > MEANS:
        raise UntraceableError(f"expected at most {MEANS} means over a row, got {len(way.means)}")
    found: dict[float, int] = {}
    for phase in way.phases:
        operands = [place for _, _, places in phase.values for place in places]
        for kind, value in (*operands, *(place for _, place in phase.stores)):
            if kind == "number":
                found.setdefault(value, len(numbers) + len(found))
    longest = max(len(phase.values) for phase in way.phases)
    for length, preloaded in ((max(longest, 1), list(found)), (SEGMENT, [])):
        encoder = _Encoder(found, preloaded, len(way.temps))
        try:
            phases = [encoder.phase(phase, length) for phase in way.phases]
            break
        except _RegistersFull:
            continue
    else:
        raise UntraceableError(f"expected at most {REGISTERS} results at once")
    code = [len(phases), len(preloaded), len(numbers), *(number for p in phases for number in p)]
    numbers += found
    return code, encoder.temps


class _RegistersFull(Exception):  # noqa: N818
    pass


class _Encoder:
    """Encodes phases in segments. A value that a later segment reads is stored in a temp."""

    def __init__(self, numbers: dict[float, int], preloaded: list[float], temps: int) -> None:
        self.numbers = numbers
        self.preloaded = {("number", value): n for n, value in enumerate(preloaded)}
        self.temps = temps
        self.spilled: dict[Place, Place] = {}

    def phase(self, phase: Phase, length: int) -> list[int]:
        count = len(phase.values)
        starts = range(0, count, length) if count else [0]
        made: dict[Place, int] = {
            ("v", value[0]): n // length for n, value in enumerate(phase.values)
        }
        final = len(starts) - 1
        read = {place: n // length for n, value in enumerate(phase.values) for place in value[2]}
        stores: list[list[tuple[Place, Place]]] = [[] for _ in starts]
        for target, place in phase.stores:
            # A target that overwrites an operand is stored after all reads.
            segment = final if target[0] in SECOND else made.get(place, final)
            stores[segment].append((target, place))
            read[place] = max(read.get(place, 0), segment)
        self.spilled, free = {}, list[Place]()
        code = [len(starts)]
        for number, start in enumerate(starts):
            values = phase.values[start : start + length]
            later = [place for place, n in made.items() if n == number and read[place] > number]
            spills: dict[Place, Place] = {
                place: free.pop() if free else self.temp() for place in later
            }
            stores[number] += [(temp, place) for place, temp in spills.items()]
            code += self.segment(values, stores[number])
            self.spilled |= spills
            free += [self.spilled.pop(p) for p in [*self.spilled] if read[p] <= number]
        return code

    def temp(self) -> Place:
        self.temps += 1
        return "temp", self.temps - 1

    def segment(
        self, values: list[tuple[int, str, list[Place]]], stores: list[tuple[Place, Place]]
    ) -> list[int]:
        """Return the loads, instructions and stores. A value has a register until its last use."""
        last: dict[Place, int] = {}
        for n, (_, _, operands) in enumerate(values):
            last |= dict.fromkeys(operands, n)
        last |= {place: len(values) for _, place in stores}
        held = dict(self.preloaded)
        free = list(range(REGISTERS - 1, len(held) - 1, -1))

        def take(place: Place) -> int:
            if not free:
                raise _RegistersFull
            held[place] = free.pop()
            return held[place]

        own = {("v", number) for number, _, _ in values}
        loads, instructions, stored = [], [], []
        for place in last:  # all loads come before all values
            if place not in own and place not in held:
                loads += [*self.source(place), take(place)]
        for n, (number, operation, operands) in enumerate(values):
            read = [held[operand] for operand in operands]
            for operand in dict.fromkeys(operands):
                if last[operand] == n and operand not in self.preloaded:
                    free.append(held.pop(operand))
            to = take(("v", number))
            instructions += [OPCODES[operation], to, *read, *[0] * (3 - len(read))]
        for target, place in stores:
            stored += [*_where(target), held[place]]
        counts = [len(loads) // 3, len(instructions) // 5, len(stored) // 3]
        return [*counts, *loads, *instructions, *stored]

    def source(self, place: Place) -> tuple[int, int]:
        """Return where a value is loaded from."""
        if place[0] == "number":
            return KINDS.index("number"), self.numbers[place[1]]
        return _where(self.spilled.get(place, place))


def _where(place: Place) -> tuple[int, int]:
    kind, index = place
    if kind in SECOND and index == 1:
        kind, index = SECOND[kind], 0
    return KINDS.index("state" if kind == "before" else kind), int(index)


def operations_header() -> str:
    """Return native/operations.hpp: the operations by their opcodes, as C++ expressions."""
    lines = [
        f"  _({name.upper()}, {OPERATIONS[name].cpp.format('a[w]', 'b[w]', 'c[w]')})"
        for name in OPCODES
    ]
    return "\n".join(
        [
            "// Written by cells/write_kernels.py from equations/operations.py: `make kernels`.",
            "#pragma once",
            "",
            "// By its opcode, each operation and its value for the operands a, b and c.",
            " \\\n".join(["#define SEQCELLS_OPERATIONS(_)", *lines]),
            "",
        ]
    )
