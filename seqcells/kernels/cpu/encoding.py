"""Encode a `Program` as code for native/interpreter.hpp."""

from __future__ import annotations

import functools
from array import array

from seqcells.equations.lowering import Lowered, Phase, Place
from seqcells.equations.operations import OPCODES, OPERATIONS
from seqcells.equations.program import CACHE_SIZE, Program, UntraceableError
from seqcells.equations.step import step_of

# Kinds in the order of `Kind`, and sizes as in native/interpreter.hpp.
KINDS = (
    *("z", "state", "p", "drop", "saved", "row", "after"),
    *("grad", "dz", "dp", "temp", "mean", "sum", "number", "operand", "e"),
)
REGISTERS, MEANS = 128, 32
SEGMENT_LENGTH = 16  # values per segment of a phase that exceeds the registers

# A target of these kinds overwrites an operand.
OVERWRITING = ("state", "grad")


@functools.lru_cache(maxsize=CACHE_SIZE)
def encode(program: Program) -> tuple[array[int], array[float]]:
    """Return the code as int32 and its constants as float64.

    These are arrays and not tensors, because an export or compiler would leave fake tensors in the
    cache.

    Raises:
        UntraceableError: the program has more means or results than the interpreter supports.
    """
    step = step_of(program)
    slots, numbers = step.slots, list[float]()
    directions = [_direction(direction, numbers) for direction in (step.forward, step.backward)]
    (forward, _), (backward, _) = directions
    sizes = (
        slots.total,
        len(slots.inputs),
        len(slots.hidden),
        len(program.stages),
        program.states,
        step.saved,
        step.rows,
    )
    temps = max(temps for _, temps in directions)
    means = max(len(direction.means) for direction in (step.forward, step.backward))
    flags = (step.reads_new_hidden, program.takes_drop)
    head = [*sizes, program.parameters, temps, means, *flags, len(forward)]
    products = [number for pair in slots.ranges() for number in pair]
    lists = [*slots.inputs, *slots.hidden, *products, *step.saved_states]
    return array("i", [*head, *lists, *forward, *backward]), array("d", numbers)


def _direction(direction: Lowered, numbers: list[float]) -> tuple[list[int], int]:
    """Return the code of one direction and its number of temps; append its constants to `numbers`.

    Each phase is one segment, and constants stay in registers. If there are too few registers, the
    phases are divided into segments, each of which loads its constants.
    """
    if len(direction.means) > MEANS:
        raise UntraceableError(
            f"expected at most {MEANS} means over a row, got {len(direction.means)}"
        )
    indices: dict[float, int] = {}
    for phase in direction.phases:
        operands = [place for _, _, places in phase.values for place in places]
        for kind, value in (*operands, *(place for _, place in phase.stores)):
            if kind == "number":
                indices.setdefault(value, len(numbers) + len(indices))
    longest = max(len(phase.values) for phase in direction.phases)
    for length, preloaded in ((max(longest, 1), list(indices)), (SEGMENT_LENGTH, [])):
        encoder = _Encoder(indices, preloaded, len(direction.temps))
        try:
            phases = [encoder.phase(phase, length) for phase in direction.phases]
            break
        except _RegistersFull:
            continue
    else:
        raise UntraceableError(
            f"expected at most {REGISTERS} values in registers at once, got more even in segments "
            f"of {SEGMENT_LENGTH} values"
        )
    head = [len(phases), len(preloaded), len(numbers), *direction.parts]
    numbers += indices
    return [*head, *(number for phase in phases for number in phase)], encoder.temps


class _RegistersFull(Exception):  # noqa: N818
    pass


class _Encoder:
    """Encodes phases as segments. Values that a later segment reads are stored in temps."""

    def __init__(self, numbers: dict[float, int], preloaded: list[float], temps: int) -> None:
        self.numbers = numbers
        self.preloaded = {("number", value): n for n, value in enumerate(preloaded)}
        self.temps = temps
        self.spilled: dict[Place, Place] = {}

    def phase(self, phase: Phase, length: int) -> list[int]:
        count = len(phase.values)
        starts = range(0, count, length) if count else [0]
        computed_in: dict[Place, int] = {
            ("v", value[0]): n // length for n, value in enumerate(phase.values)
        }
        final = len(starts) - 1
        read = {place: n // length for n, value in enumerate(phase.values) for place in value[2]}
        stores: list[list[tuple[Place, Place]]] = [[] for _ in starts]
        for target, place in phase.stores:
            # A target that overwrites an operand is stored after all reads.
            segment = final if target[0] in OVERWRITING else computed_in.get(place, final)
            stores[segment].append((target, place))
            read[place] = max(read.get(place, 0), segment)
        self.spilled, free = {}, list[Place]()
        code = [len(starts)]
        for number, start in enumerate(starts):
            values = phase.values[start : start + length]
            later = [
                place for place, n in computed_in.items() if n == number and read[place] > number
            ]
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
        """Return loads, instructions and stores. A value occupies a register until its last use."""
        last: dict[Place, int] = {}
        for n, (_, _, operands) in enumerate(values):
            last |= dict.fromkeys(operands, n)
        last |= {place: len(values) for _, place in stores}
        registers = dict(self.preloaded)
        free = list(range(REGISTERS - 1, len(registers) - 1, -1))

        def take(place: Place) -> int:
            if not free:
                raise _RegistersFull
            registers[place] = free.pop()
            return registers[place]

        computed = {("v", number) for number, _, _ in values}
        loads, instructions, stored = [], [], []
        for place in last:  # all loads come before all values
            if place not in computed and place not in registers:
                loads += [*self.source(place), take(place)]
        for n, (number, operation, operands) in enumerate(values):
            read = [registers[operand] for operand in operands]
            for operand in dict.fromkeys(operands):
                if last[operand] == n and operand not in self.preloaded:
                    free.append(registers.pop(operand))
            to = take(("v", number))
            instructions += [OPCODES[operation], to, *read, *[0] * (3 - len(read))]
        for target, place in stores:
            stored += [*_target(target), registers[place]]
        counts = [len(loads) // 3, len(instructions) // 5, len(stored) // 3]
        return [*counts, *loads, *instructions, *stored]

    def source(self, place: Place) -> tuple[int, int]:
        """Return the kind and index from which a value is loaded."""
        if place[0] == "number":
            return KINDS.index("number"), self.numbers[place[1]]
        return _target(self.spilled.get(place, place))


def _target(place: Place) -> tuple[int, int]:
    kind, index = place
    return KINDS.index("state" if kind == "before" else kind), int(index)


def operations_header() -> str:
    """Return the text of native/operations.hpp: the C++ expression of each operation, by opcode."""
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
