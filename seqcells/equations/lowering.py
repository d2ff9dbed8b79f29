"""Lower a `Program` to the ordered phases of a step, forward and backward.

A *phase* is one pass over the units of a row. A step has one phase, and one more for each level of
nested means over the row and for each stage of late products. A value that a later phase reads is
stored in a buffer, a `temp`. The C++ written by `source.py` and the interpreter in
native/interpreter.hpp run these phases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from seqcells.equations.operations import OPERATIONS
from seqcells.equations.program import is_number, postorder

# Values that take at most this many cheap operations are recomputed instead of stored in a temp.
CHEAP = 2

# An operand or a target: a kind such as `z`, `state` or `saved`, and an index. The kind `v` is a
# value of the same phase, `number` a constant.
Place = tuple[str, float]


class Phase(NamedTuple):
    """Values in order, each with number, operation and operands; then targets and their values."""

    values: list[tuple[int, str, list[Place]]]
    stores: list[tuple[Place, Place]]


class Wait(NamedTuple):
    """A stage: the values that it `read`s must precede it, its results are `known` after it."""

    read: Sequence[str]
    known: Sequence[str]


class Lowered(NamedTuple):
    """The phases of one direction.

    `temps` and `means` hold the phase that stores each temp and the phase that sums each mean.
    `stages` holds the first phase after each stage, in the order in which the direction runs them.
    """

    phases: list[Phase]
    temps: list[int]
    means: list[int]
    stages: list[int]

    @property
    def parts(self) -> list[int]:
        """The number of stages that precede each phase."""
        return [sum(first <= n for first in self.stages) for n in range(len(self.phases))]

    def phases_of(self, kind: str, count: int) -> list[int]:
        """Return the phase that stores each of `count` targets of a kind."""
        found = dict.fromkeys(range(count), 0)
        for number, phase in enumerate(self.phases):
            for (stored, index), _ in phase.stores:
                if stored == kind:
                    found[int(index)] = number
        return list(found.values())


def lower(
    values: Sequence[tuple[str, ...]],
    known: Mapping[str, Place],
    results: Mapping[Place, str],
    last: Sequence[str] = (),
    waits: Sequence[Wait] = (),
) -> Lowered:
    """Return the phases that compute the `results` from the `known` values.

    Targets of the kinds in `last` are stored in the last phase, since they overwrite operands. The
    stages in `waits` run one after another.
    """
    return _Lowering(values, known, waits).lower(results, last)


class _Lowering:
    def __init__(
        self,
        values: Sequence[tuple[str, ...]],
        known: Mapping[str, Place],
        waits: Sequence[Wait],
    ) -> None:
        self.values = values
        self.known = known
        self.waits = waits
        self.after = {name: n for n, wait in enumerate(waits) for name in wait.known}
        self.stages: list[int] = []  # first phase after each stage
        self.levels: dict[str, int] = {}  # first phase that can compute a value
        self.costs: dict[str, int] = {}  # operations to recompute a value in another phase
        for n, (operation, *operands) in enumerate(values):
            if (name := f"v{n}") in known:
                continue
            own_cost = CHEAP + 1 if OPERATIONS[operation].costly else 1
            cost = own_cost + sum(self.costs.get(operand, 0) for operand in operands)
            self.costs[name] = min(cost, CHEAP + 1)
            self.levels[name] = max(map(self.level, operands)) + (operation == "mean")
        self.temps: dict[str, int] = {}
        self.means: dict[str, int] = {}
        self.requested: list[dict[Place, str]] = []

    def level(self, name: str) -> int:
        if name in self.after:
            return self.level_after(self.after[name])
        return self.levels.get(name, 0)

    def level_after(self, stage: int) -> int:
        """Return the first phase after a stage. It does not precede that of an earlier stage."""
        while len(self.stages) <= stage:
            read = max(map(self.level, self.waits[len(self.stages)].read), default=0)
            self.stages.append(max([1 + read, *self.stages[-1:]]))
        return self.stages[stage]

    def lower(self, results: Mapping[Place, str], last: Sequence[str]) -> Lowered:
        if self.waits:
            self.level_after(len(self.waits) - 1)
        count = 1 + max([*map(self.level, results.values()), *self.stages[-1:]], default=0)
        self.requested = [{} for _ in range(count)]
        for target, name in results.items():
            self.requested[-1 if target[0] in last else self.level(name)][target] = name
        phases = [self.phase(number) for number in reversed(range(count))][::-1]
        temps = [self.level(name) for name in self.temps]
        means = [self.level(name) - 1 for name in self.means]
        return Lowered(phases, temps, means, self.stages)

    def phase(self, number: int) -> Phase:
        requested, places = self.requested[number], dict[str, Place]()
        computed: list[tuple[int, str, list[Place]]] = []

        def operands(name: str) -> Sequence[str]:
            if (place := self.place(name, number)) is not None:
                places[name] = place
                return ()
            return self.values[int(name[1:])][1:]

        for name in postorder(requested.values(), operands):
            if name not in places:
                n = int(name[1:])
                operation, *read = self.values[n]
                computed.append((n, operation, [places[operand] for operand in read]))
                places[name] = "v", n
        return Phase(computed, [(target, places[name]) for target, name in requested.items()])

    def place(self, name: str, number: int) -> Place | None:
        """Return the place from which a phase reads a value; None if the phase computes it.

        Requests a mean or a temp from an earlier phase.
        """
        if is_number(name):
            return "number", float(name)
        if name in self.known:
            return self.known[name]
        operation, *operands = self.values[int(name[1:])]
        if operation == "mean":
            at = self.means.setdefault(name, len(self.means))
            self.requested[self.level(name) - 1]["sum", at] = operands[0]
            return "mean", at
        if (level := self.level(name)) < number and self.costs[name] > CHEAP:
            at = self.temps.setdefault(name, len(self.temps))
            self.requested[level]["temp", at] = name
            return "temp", at
        return None
