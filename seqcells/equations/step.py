"""Lower a `Program` in both directions, and select the values saved for the backward pass."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from seqcells.equations.gradient import differentiate
from seqcells.equations.lowering import Lowered, Place, Wait, lower
from seqcells.equations.operations import OPERATIONS
from seqcells.equations.program import CACHE_SIZE, Program, is_number, postorder
from seqcells.equations.slots import product_names, slots_of


@functools.lru_cache(maxsize=CACHE_SIZE)
def step_of(program: Program) -> Step:
    """Return the cached step of a program."""
    return Step(program)


class Step:
    """The phases of a program, `forward` and `backward`.

    The backward pass reads `saved` values per unit and step, `rows` values per row and step, and if
    `reads_new_hidden` the hidden state after the step.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.slots = slots_of(program)
        self.stages = program.stages
        self._late = product_names(program)
        writer, self._gradients = differentiate(program)
        self._values = writer.values
        self._saved: dict[str, None] = dict.fromkeys(program.results[1:])
        self._rows: dict[str, None] = {}
        self._row_values = self._find_row_values()
        # Cached results of `_missing` by value, all None from `_missing_end` on.
        self._missing_cache: list[set[str] | None] = [None] * len(self._values)
        self._missing_end = 0
        self.reads_new_hidden = False
        for name in (*self._needed(), *(stage.operand for stage in self.stages)):
            self._ensure(name)
        self.forward = self._forward()
        self.backward = self._backward()

    @property
    def saved(self) -> int:
        """The number of values saved per unit and step."""
        return len(self._saved)

    @property
    def rows(self) -> int:
        """The number of values saved per row and step."""
        return len(self._rows)

    @property
    def saved_states(self) -> list[int]:
        """The indices of the state's parts from the second on among the saved values."""
        return [[*self._saved].index(name) for name in self.program.results[1:]]

    def unprojected(self) -> Lowered:
        """Return the phases that recompute the hidden state from the saved values."""
        return lower(self._values, self._saved_places(), {("result", 0): self.program.results[0]})

    def inference(self) -> Lowered:
        """Return the phases of the forward pass without saved values."""
        return self._lower_forward(self._new_state() | self._operands())

    def operand(self, stage: int) -> Lowered:
        """Return the phases that compute the operand of a stage from the sums of those before."""
        return lower(
            self._values, self._forward_places(), {("operand", stage): self.stages[stage].operand}
        )

    def late_gradient(self, stage: int) -> Lowered:
        """Return the phases that compute the gradient by the sums of a stage."""
        gates = self.stages[stage].gates
        results: dict[Place, str] = {
            ("dz", self.slots.of("h", gate)): self._gradients[f"h{gate}"] for gate in gates
        }
        return lower(self._values, self._backward_places(), results)

    def _new_state(self) -> dict[Place, str]:
        return {("state", n): name for n, name in enumerate(self.program.results)}

    def _forward(self) -> Lowered:
        results = self._new_state() | self._operands()
        results |= {("saved", n): name for n, name in enumerate(self._saved)}
        results |= {("row", n): name for n, name in enumerate(self._rows)}
        return self._lower_forward(results)

    def _lower_forward(self, results: dict[Place, str]) -> Lowered:
        return lower(self._values, self._forward_places(), results, ("state",), self._waits())

    def _waits(self) -> list[Wait]:
        """Return the stages with the values that they compute: products, or their shared sums."""
        places = {place: name for name, place in self._sums().items()}
        return [
            Wait([stage.operand], [places["z", self.slots.of("h", g)] for g in stage.gates])
            for stage in self.stages
        ]

    def _backward(self) -> Lowered:
        inputs: dict[Place, str] = {}
        for kind, gates in (("x", self.slots.inputs), ("h", self.slots.unshared)):
            for gate in gates:
                inputs["dz", self.slots.of(kind, gate)] = f"{kind}{gate}"
        inputs |= {("dp", n): f"p{n}" for n in range(self.program.parameters)}
        inputs |= {("grad", n): f"s{n}" for n in range(self.program.states)}
        results = {target: self._gradients[name] for target, name in inputs.items()}
        waits = [
            Wait([self._gradients[f"h{gate}"] for gate in stage.gates], [f"e{n}"])
            for n, stage in enumerate(self.stages)
        ]
        return lower(
            self._values,
            self._backward_places(),
            results | self._operands(),
            ("grad",),
            waits[::-1],
        )

    # Places of the inputs of a direction, by their names in the program.

    def _operands(self) -> dict[Place, str]:
        return {("operand", n): stage.operand for n, stage in enumerate(self.stages)}

    def _forward_places(self) -> dict[str, Place]:
        return self._sums() | self._step_inputs() | self._parts("s", "state", self.program.states)

    def _backward_places(self) -> dict[str, Place]:
        states = self.program.states
        places = self._saved_places() | self._step_inputs() | self._parts("s", "before", states)
        return places | self._parts("g", "grad", states) | self._parts("e", "e", len(self.stages))

    def _parts(self, kind: str, place: str, count: int) -> dict[str, Place]:
        return {f"{kind}{n}": (place, n) for n in range(count)}

    def _step_inputs(self) -> dict[str, Place]:
        return self._parts("p", "p", self.program.parameters) | {"d0": ("drop", 0)}

    def _sums(self) -> dict[str, Place]:
        places: dict[str, Place] = {}
        for gate in self.slots.separate + self.slots.input_only:
            places[f"x{gate}"] = "z", self.slots.of("x", gate)
        for gate in self.slots.unshared:
            places[self._late.get(gate, f"h{gate}")] = "z", self.slots.of("h", gate)
        for n, value in enumerate(self._values):
            if self._is_sum(value):
                places[f"v{n}"] = "z", self.slots.of("x", int(value[1][1:]))
        return places

    def _saved_places(self) -> dict[str, Place]:
        places: dict[str, Place] = {}
        if self.reads_new_hidden:
            places[self.program.results[0]] = "after", 0
        places |= {name: ("row", n) for n, name in enumerate(self._rows)}
        return places | {name: ("saved", n) for n, name in enumerate(self._saved)}

    def _is_sum(self, value: tuple[str, ...]) -> bool:
        return value[0] == "add" and value[1][0] == "x" and int(value[1][1:]) in self.slots.shared

    # A value is saved if recomputing it is costly and no part of the state equals it, or if it
    # cannot be recomputed from the other saved values.

    def _needed(self) -> list[str]:
        """Return the forward values and sums that the gradient reads."""
        count = len(self.program.values)

        def is_forward(name: str) -> bool:
            return name[0] in "xh" or (name[0] == "v" and int(name[1:]) < count)

        def operands(name: str) -> Sequence[str]:
            leaf = name[0] != "v" or is_forward(name)
            return () if leaf else self._values[int(name[1:])][1:]

        return [*filter(is_forward, postorder(self._gradients.values(), operands))]

    def _find_row_values(self) -> set[str]:
        """Return the values that are equal for all units of a row."""
        names: set[str] = set()
        for n, (operation, *operands) in enumerate(self._values):
            if operation == "mean" or all(is_number(name) or name in names for name in operands):
                names.add(f"v{n}")
        return names

    def _ensure(self, name: str) -> None:
        """Save what the backward pass needs to compute this value."""
        if name == self.program.results[0] and not self._is_known(name):
            self.reads_new_hidden = True
            self._invalidate(name)
        missing = self._missing(name)
        if len(missing) == 1 and missing != {name}:
            return self._ensure(*missing)
        if len(missing) > 1 and len(unknown := self._unknown_operands(name)) == 1:
            return self._ensure(*unknown)  # other values may read it too
        if missing:
            (self._rows if name in self._row_values else self._saved)[name] = None
            self._invalidate(name)
        return None

    def _unknown_operands(self, name: str) -> set[str]:
        operands = self._values[int(name[1:])][1:] if name[0] == "v" else ()
        return {operand for operand in operands if self._missing(operand)}

    def _is_known(self, name: str) -> bool:
        """Return whether the backward pass reads a value without computing it."""
        if name[0] in "spdg" or is_number(name) or name in self._saved or name in self._rows:
            return True
        return name == self.program.results[0] and self.reads_new_hidden

    def _invalidate(self, name: str) -> None:
        """Clear the cached results for values that may depend on this value, now known."""
        first = int(name[1:]) if name[0] == "v" else 0
        for n in range(first, self._missing_end):
            self._missing_cache[n] = None
        self._missing_end = min(self._missing_end, first)

    def _missing(self, name: str) -> set[str]:
        """Return names to save before this value can be recomputed, two at most."""

        def cached(name: str) -> set[str] | None:
            if self._is_known(name):
                return set()
            return {name} if name[0] != "v" else self._missing_cache[int(name[1:])]

        def operands(name: str) -> Sequence[str]:
            return self._values[int(name[1:])][1:] if cached(name) is None else ()

        for inner in postorder([name], operands):
            if cached(inner) is None:
                n = int(inner[1:])
                value = self._values[n]
                missing = {name for operand in value[1:] for name in cached(operand) or ()}
                costly = OPERATIONS[value[0]].costly and missing
                if costly or self._is_sum(value) or value[0] == "mean":
                    missing = {inner}
                self._missing_cache[n] = set(sorted(missing)[:2])
                self._missing_end = max(self._missing_end, n + 1)
        return cached(name) or set()
