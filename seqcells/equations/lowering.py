"""Lower a `Program` to the ordered phases of a step, forward and backward.

A step goes through the units of a row once. If it takes means over the row, it goes through once
for each level of them: a *phase*. A value that a later phase reads is stored in a row of its own,
a `temp`. The C++ that `source.py` writes and the interpreter in native/interpreter.hpp both follow
these phases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from seqcells.equations.operations import OPERATIONS
from seqcells.equations.program import is_number, postorder

# The most operations for which a value is recomputed instead of stored in a temp.
CHEAP = 2

# An operand or a target: a kind, as `z`, `state`, `keep`, and which of them. `v` is a value of the
# same phase, `number` a constant.
Place = tuple[str, float]


class Phase(NamedTuple):
    """Values in order, each by its number, operation and operands; then what is stored where."""

    values: list[tuple[int, str, list[Place]]]
    stores: list[tuple[Place, Place]]


class Lowered(NamedTuple):
    """The phases of one direction; `temps` and `means` hold the phase that stores or sums each."""

    phases: list[Phase]
    temps: list[int]
    means: list[int]

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
) -> Lowered:
    """Return the phases that compute the `results`, by their targets, from what is `known`.

    Targets of the kinds in `last` are stored in the last phase: they take the place of something
    that others read.
    """
    return _Lowering(values, known).lower(results, last)


class _Lowering:
    def __init__(self, values: Sequence[tuple[str, ...]], known: Mapping[str, Place]) -> None:
        self.values = values
        self.known = known
        self.levels: dict[str, int] = {}  # the first phase in which a value can be computed
        self.costs: dict[str, int] = {}  # operations to recompute a value in another phase
        for n, (operation, *operands) in enumerate(values):
            if (name := f"v{n}") in known:
                continue
            own = CHEAP + 1 if OPERATIONS[operation].costly else 1
            cost = own + sum(self.costs.get(operand, 0) for operand in operands)
            self.costs[name] = min(cost, CHEAP + 1)
            self.levels[name] = max(map(self.level, operands)) + (operation == "mean")
        self.temps: dict[str, int] = {}
        self.means: dict[str, int] = {}
        self.wanted: list[dict[Place, str]] = []

    def level(self, name: str) -> int:
        return self.levels.get(name, 0)

    def lower(self, results: Mapping[Place, str], last: Sequence[str]) -> Lowered:
        count = 1 + max(map(self.level, results.values()), default=0)
        self.wanted = [{} for _ in range(count)]
        for target, name in results.items():
            self.wanted[-1 if target[0] in last else self.level(name)][target] = name
        phases = [self.phase(number) for number in reversed(range(count))][::-1]
        temps = [self.level(name) for name in self.temps]
        means = [self.level(name) - 1 for name in self.means]
        return Lowered(phases, temps, means)

    def phase(self, number: int) -> Phase:
        wanted, places = self.wanted[number], dict[str, Place]()
        computed: list[tuple[int, str, list[Place]]] = []

        def operands(name: str) -> Sequence[str]:
            if (place := self.place(name, number)) is not None:
                places[name] = place
                return ()
            return self.values[int(name[1:])][1:]

        for name in postorder(wanted.values(), operands):
            if name not in places:
                n = int(name[1:])
                operation, *read = self.values[n]
                computed.append((n, operation, [places[operand] for operand in read]))
                places[name] = "v", n
        return Phase(computed, [(target, places[name]) for target, name in wanted.items()])

    def place(self, name: str, number: int) -> Place | None:
        """Return where a phase reads a value; None for one that it computes.

        Requests a mean or a temp from an earlier phase.
        """
        if is_number(name):
            return "number", float(name)
        if name in self.known:
            return self.known[name]
        operation, *operands = self.values[int(name[1:])]
        if operation == "mean":
            at = self.means.setdefault(name, len(self.means))
            self.wanted[self.level(name) - 1]["sum", at] = operands[0]
            return "mean", at
        if (level := self.level(name)) < number and self.costs[name] > CHEAP:
            at = self.temps.setdefault(name, len(self.temps))
            self.wanted[level]["temp", at] = name
            return "temp", at
        return None
