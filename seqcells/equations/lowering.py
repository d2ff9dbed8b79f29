"""From a `Program` to what a step computes, forward and backward, in what order.

A step goes through the units of a row once, or, where it takes means over the row, once for each
level of them: a *phase*. What a later phase reads of an earlier one waits in a row of its own, a
`temp`. Both the C++ that `source.py` writes and the interpreter in native/interpreter.hpp follow
these phases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from seqcells.equations.program import COSTLY, is_number

# Operations that it is worth computing a value anew with, in place of a temp.
CHEAP = 2

# An operand or a target: a kind, as `z`, `state`, `keep`, and which of them. `v` is a value of the
# same phase, `number` a constant.
Place = tuple[str, float]


class Phase(NamedTuple):
    """Values in order, each by its number, operation and operands; then what is stored where."""

    values: list[tuple[int, str, list[Place]]]
    stores: list[tuple[Place, Place]]


class Lowered(NamedTuple):
    """The phases of one direction; `temps` and `means` say which phase stores or sums each."""

    phases: list[Phase]
    temps: list[int]
    means: list[int]

    def phases_of(self, kind: str, count: int) -> list[int]:
        """The phase that stores each of `count` targets of a kind."""
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
    """The phases that make the `results`, by their targets, out of what is `known`.

    Targets of the kinds in `last` are stored in the last phase: they take the place of something
    that others read.
    """
    return _Lowering(values, known).lower(results, last)


class _Lowering:
    def __init__(self, values: Sequence[tuple[str, ...]], known: Mapping[str, Place]) -> None:
        self.values = values
        self.known = known
        self.levels: dict[str, int] = {}
        self.temps: dict[str, int] = {}
        self.means: dict[str, int] = {}
        self.wanted: list[dict[Place, str]] = []

    def lower(self, results: Mapping[Place, str], last: Sequence[str]) -> Lowered:
        count = 1 + max(map(self.level, results.values()), default=0)
        self.wanted = [{} for _ in range(count)]
        for target, name in results.items():
            self.wanted[-1 if target[0] in last else self.level(name)][target] = name
        phases = [self.phase(number) for number in reversed(range(count))][::-1]
        temps = [self.level(name) for name in self.temps]
        means = [self.level(name) - 1 for name in self.means]
        return Lowered(phases, temps, means)

    def level(self, name: str) -> int:
        """The first phase in which a value can be had."""
        if name in self.known or name[0] != "v":
            return 0
        if name not in self.levels:
            operation, *operands = self.values[int(name[1:])]
            self.levels[name] = max(map(self.level, operands)) + (operation == "mean")
        return self.levels[name]

    def cost(self, name: str) -> int:
        """Operations to compute a value anew in any phase; many where it cannot be."""
        if is_number(name) or name in self.known:
            return 0
        operation, *operands = self.values[int(name[1:])]
        costly = CHEAP + 1 if operation in COSTLY else 1
        return costly + sum(map(self.cost, operands))

    def phase(self, number: int) -> Phase:
        computed: dict[str, tuple[int, str, list[Place]]] = {}

        def place(name: str) -> Place:
            if is_number(name):
                return "number", float(name)
            if name in self.known:
                return self.known[name]
            operation, *operands = self.values[int(name[1:])]
            if operation == "mean":
                at = self.means.setdefault(name, len(self.means))
                self.wanted[self.level(name) - 1]["sum", at] = operands[0]
                return "mean", at
            if (level := self.level(name)) < number and self.cost(name) > CHEAP:
                at = self.temps.setdefault(name, len(self.temps))
                self.wanted[level]["temp", at] = name
                return "temp", at
            if name not in computed:
                computed[name] = (int(name[1:]), operation, list(map(place, operands)))
            return "v", int(name[1:])

        stores = [(target, place(name)) for target, name in self.wanted[number].items()]
        return Phase(list(computed.values()), stores)
