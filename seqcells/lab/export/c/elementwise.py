"""The elementwise part of a step as C statements: one loop over the units per phase.

Between the loops, each stage of late products adds its product with the vector `operand1`,
`operand2` and so on to the sums.
"""

from __future__ import annotations

import itertools
import textwrap
from collections import Counter

from seqcells.equations.lowering import Lowered, Phase, Place
from seqcells.equations.step import step_of
from seqcells.lab.export.c.layers import STATES, Layer
from seqcells.lab.export.c.products import multiply_add

# Expression and precedence of each operation. Operands of a lower precedence get parentheses, the
# right operand of `-` and `/` also at an equal one.
_INFIX = {"add": ("+", 1), "sub": ("-", 1), "mul": ("*", 2), "div": ("/", 2)}
_CALL = {"abs": "fabsf", "sqrt": "sqrtf"}
_ATOM = 9
_LONGEST = 50  # a longer expression is divided

ACTIVATIONS = ("sigmoid", "tanh", "relu", "softplus", "exp")


def operations_of(layer: Layer) -> set[str]:
    """Return the names of the operations that the layer's code uses."""
    return {operation for operation, *_ in layer.program.values}


def elementwise(layer: Layer) -> list[str]:
    """Return the declarations and loops that compute the new state from `sums` and the state."""
    lowered = step_of(layer.program).inference()
    buffers = _buffers(lowered)
    lines = [f"float {name}[units];" for name in dict.fromkeys(buffers.values())]
    stages = 0
    for number, (phase, before) in enumerate(zip(lowered.phases, lowered.parts)):
        for stage in range(stages + 1, before + 1):
            lines += ["", *_late_product(layer, stage), ""]
        stages = before
        if phase.stores:
            lines += _PhaseWriter(layer, phase, buffers).lines()
        lines += [
            f"const float mean{n} = @_mean(row{n}, units);"
            for n, summed in enumerate(lowered.means)
            if summed == number
        ]
    return lines


def _buffers(lowered: Lowered) -> dict[Place, str]:
    """Return the array of each temp, row of a mean, and operand of a stage.

    A temp that equals an operand has no array.
    """
    operands: dict[Place, str] = {
        ("operand", n): f"operand{n + 1}" for n in range(len(lowered.stages))
    }
    equal: dict[Place, str] = {}
    for phase in lowered.phases:
        stored = {place: operands[target] for target, place in phase.stores if target in operands}
        equal |= {target: stored[place] for target, place in phase.stores if place in stored}
    numbers = itertools.count()
    temps: list[Place] = [("temp", n) for n in range(len(lowered.temps))]
    names = {temp: equal.get(temp) or f"temp{next(numbers)}" for temp in temps}
    rows: dict[Place, str] = {("sum", n): f"row{n}" for n in range(len(lowered.means))}
    return operands | names | rows


def _late_product(layer: Layer, stage: int) -> list[str]:
    """Return the statements that add the product of a stage."""
    gates = ", ".join(layer.gates[gate] for gate in layer.slots.stages[stage])
    lines = multiply_add(layer.products[f"stage{stage}"], "sums", f"operand{stage}")
    comment = f"// Stage {stage}: the recurrent weights of {gates} multiply operand{stage}."
    return [comment, *lines]


def literal(value: float) -> str:
    """Return a C literal that reads as exactly this value in float32."""
    text = f"{value:.9g}"
    return f"{text}f" if any(mark in text for mark in ".en") else f"{text}.0f"


class _PhaseWriter:
    """Writes the loop of one phase.

    A value gets a variable if it is a gate or is read more than once. Other values become part of
    the expression that reads them. Values that are equal for all units precede the loop.
    """

    def __init__(self, layer: Layer, phase: Phase, buffers: dict[Place, str]) -> None:
        # One store per array: a temp may have that of an operand.
        stores = {buffers.get(target, target): (target, place) for target, place in phase.stores}
        phase = phase._replace(stores=[*stores.values()])
        self.layer, self.phase, self.buffers = layer, phase, buffers
        self.texts: dict[Place, tuple[str, int]] = {}
        reads = [place for _, _, operands in phase.values for place in operands]
        self.reads = Counter([*reads, *(place for _, place in phase.stores)])
        self.uniform: set[Place] = set()
        self.before: list[str] = []
        self.inside: list[str] = []
        self.names: set[str] = set()

    def lines(self) -> list[str]:
        self._load_states()
        for number, operation, operands in self.phase.values:
            self._value(number, operation, operands)
        stores = [
            line for target, place in self.phase.stores for line in self._store(target, place)
        ]
        body = textwrap.indent("\n".join([*self.inside, *stores]), "  ").split("\n")
        return [*self.before, "for (int u = 0; u < units; ++u) {", *body, "}"]

    def _load_states(self) -> None:
        """Read the old state into variables, because the end of the loop overwrites it."""
        stored = [int(n) for (kind, n), _ in self.phase.stores if kind == "state"]
        for n in range(self.layer.program.states):
            zoned = n in stored and self._share(n) and not (n == 0 and self._projects)
            if self.reads["state", n] or zoned:
                self.inside.append(f"const float old_{STATES[n]} = {STATES[n]}[u];")

    @property
    def _projects(self) -> bool:
        return "projection" in self.layer.products

    def _share(self, part: int) -> str:
        name = f"{self.layer.name}_{STATES[part]}_share"
        return name if name in self.layer.arrays else ""

    def _value(self, number: int, operation: str, operands: list[Place]) -> None:
        place: Place = "v", number
        text, precedence = self._expression(operation, operands)
        uniform = all(
            kind in ("number", "mean") or (kind, n) in self.uniform for kind, n in operands
        )
        if uniform:
            self.uniform.add(place)
        gate = self._gate_of(operation, operands) or self._new_part(place)
        if gate or self.reads[place] > 1 or len(text) > _LONGEST or uniform:
            name = gate or f"v{number}"
            self.names.add(name)
            (self.before if uniform else self.inside).append(f"const float {name} = {text};")
            text, precedence = name, _ATOM
        self.texts[place] = text, precedence

    def _gate_of(self, operation: str, operands: list[Place]) -> str:
        """Return the name of a gate if the value is the activation of the gate's sum."""
        (kind, slot), *_ = operands
        if operation not in ACTIVATIONS or kind != "z":
            return ""
        name = f"{_gate_of_slot(self.layer, int(slot))}_gate"
        return "" if name in self.names else name

    def _new_part(self, place: Place) -> str:
        """Return a name if other values read a part of the new state."""
        parts = [
            int(n) for (kind, n), stored in self.phase.stores if (kind, stored) == ("state", place)
        ]
        return f"new_{STATES[parts[0]]}" if parts and self.reads[place] > 1 else ""

    def _expression(self, operation: str, operands: list[Place]) -> tuple[str, int]:
        parts = [self._text(place) for place in operands]
        if operation in _INFIX:
            sign, level = _INFIX[operation]
            (left, left_level), (right, right_level) = parts
            strict = operation in ("sub", "div")
            left = f"({left})" if left_level < level else left
            right = f"({right})" if right_level < level + strict else right
            return f"{left} {sign} {right}", level
        if operation == "neg":
            text, level = parts[0]
            return f"-({text})" if level < _ATOM or text.startswith("-") else f"-{text}", 2
        text = ", ".join(text for text, _ in parts)
        if operation == "rsqrt":
            return f"1.0f / sqrtf({text})", 2
        return f"{_CALL.get(operation, f'@_{operation}')}({text})", _ATOM

    def _text(self, place: Place) -> tuple[str, int]:
        kind, number = place
        n = int(number)
        if kind == "number":
            return literal(number), _ATOM if number >= 0 else 2
        if kind == "v":
            return self.texts[place]
        row = "" if n == 0 else "units + " if n == 1 else f"{n} * units + "
        return {
            "z": f"sums[{row}u]",
            "p": f"parameters[{row}u]",
            "state": f"old_{STATES[n]}" if kind == "state" else "",
            "temp": f"{self.buffers.get(place, '')}[u]",
            "mean": f"mean{n}",
        }[kind], _ATOM

    def _store(self, place: Place, stored: Place) -> list[str]:
        kind, n = place[0], int(place[1])
        value, level = self._text(stored)
        if kind != "state":
            return [f"{self.buffers[place]}[u] = {value};"]
        if n == 0 and self._projects:
            return [f"unprojected[u] = {value};"]
        return blend(STATES[n], "u", value, level, self._share(n))


def blend(part: str, index: str, value: str, level: int, share: str) -> list[str]:
    """Return the statements that store a part of the state, with zoneout if it has a share."""
    if not share:
        return [f"{part}[{index}] = {value};"]
    value = value if level >= 2 else f"({value})"
    return [
        f"const float {part}_share = weights->{share}[{index}];",
        f"{part}[{index}] = {part}_share * old_{part} + (1.0f - {part}_share) * {value};",
    ]


def _gate_of_slot(layer: Layer, slot: int) -> str:
    slots = layer.slots
    if slot < len(slots.inputs):
        return layer.gates[slots.inputs[slot]]
    return layer.gates[slots.hidden[slot - (slots.total - len(slots.hidden))]]
