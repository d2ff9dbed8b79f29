"""Programs: a cell's elementwise part in static single assignment form.

The text of a `Program` states how a step computes one unit::

    gates 2 hidden 1 states 1 parameters 0
    v0 = add x0 h0
    v1 = sigmoid v0
    v2 = mul s0 v1
    v3 = add x1 h1
    v4 = tanh v3
    v5 = sub 1.0 v1
    v6 = mul v4 v5
    v7 = add v2 v6
    return v7

Operands:

- `x0`, `x1`, ...: the gates' products with the input, biases included
- `h0`, `h1`, ...: the gates' products with the hidden state, biases included; none if `hidden 0`
- `s0`, `s1`, ...: the parts of the state before the step
- `p0`, `p1`, ...: parameters that the step reads outside the products, one number per unit
- `d0`: the factor of a `Noise` that the step applies outside the products (`protocol.factor_of`),
  1 without noise

A program returns the parts of the state after the step, the hidden state first. Two operations
read other units: `mean`, the mean over the row, and `product h2 v6`, the product of gate 2's
recurrent weights with the value v6 in place of the hidden state, a *late product*. Late products of
one value form a stage, which is one product of matrices. `inputs 2` in the first line states that
only the first two gates have a product with the input.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Self

from seqcells.equations.operations import OPERATIONS

# Bounds the caches of programs: a constant that changes at each step adds a program each time.
CACHE_SIZE = 256

# Bounds of a kernel, as in kernels/cpu/native/problem.hpp and cell.hpp.
MOST_PARTS = 8  # of a state
MOST_STAGES = 16  # of late products


class UntraceableError(ValueError):
    """Raised with the reason if a program cannot express an `activate`."""


class Stage(NamedTuple):
    """Late products of one value: `W_hh operand + b_hh` of these gates."""

    operand: str
    gates: tuple[int, ...]


class Program(NamedTuple):
    """The step of one unit. `str` returns its text, and `parse` reads it."""

    gates: int
    hidden: bool  # whether each gate has a product with W_hh
    states: int
    parameters: int
    inputs: int  # the first gates, which have a product with the input
    values: tuple[tuple[str, ...], ...]
    results: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"v{n} = {' '.join(value)}" for n, value in enumerate(self.values)]
        numbers = self.gates, int(self.hidden), self.states, self.parameters, self.inputs
        count = 4 if self.inputs == self.gates else 5
        head = " ".join(f"{name} {number}" for name, number in zip(self._fields, numbers[:count]))
        return "\n".join([head, *lines, f"return {' '.join(self.results)}"])

    @classmethod
    @functools.lru_cache(maxsize=CACHE_SIZE)
    def parse(cls, text: str) -> Self:
        """Parse the text of a program.

        Raises:
            ValueError: `text` is not the text of a program.
        """
        try:
            head, *lines, last = text.split("\n")
            gates, hidden, states, parameters, *inputs = map(int, head.split()[1::2])
            (count,) = inputs or (gates,)
            values = tuple(tuple(line.split(" = ")[1].split()) for line in lines)
            results = tuple(last.split()[1:])
            program = cls(gates, bool(hidden), states, parameters, count, values, results)
        except (IndexError, ValueError) as error:
            raise ValueError(f"expected the text of a program, got {text!r}") from error
        if str(program) != text or not program._is_valid():
            raise ValueError(f"expected the text of a program, got {text!r}")
        return program

    def _is_valid(self) -> bool:
        if not 0 <= self.inputs <= self.gates or not 0 < self.states <= MOST_PARTS:
            return False
        for operation, *operands in self.values:
            if operation not in OPERATIONS or OPERATIONS[operation].arity != len(operands):
                return False
        late = [value[1] for value in self.values if value[0] == "product"]
        last = [f"h{gate}" for gate in range(self.gates - len(late), self.gates)]
        if (late and not self.hidden) or {*late} != {*last} or len(self.stages) > MOST_STAGES:
            return False
        known = {*self.sums, "d0"} - {*late}
        known |= {f"s{n}" for n in range(self.states)} | {f"p{n}" for n in range(self.parameters)}
        for n, (operation, *operands) in enumerate(self.values):
            if operation == "product":
                valid = operands[1] in known
            else:
                valid = all(operand in known or _is_literal(operand) for operand in operands)
            if not valid:
                return False
            known.add(f"v{n}")
        return len(self.results) == self.states and all(
            result in known or _is_literal(result) for result in self.results
        )

    @property
    def takes_drop(self) -> bool:
        """Whether the step reads the noise factor `d0`."""
        return any("d0" in value for value in self.values)

    @property
    def whole_rows(self) -> bool:
        """Whether a unit reads other units outside the products."""
        return any(value[0] == "mean" for value in self.values)

    @property
    def sums(self) -> list[str]:
        """The names of the products: with the input, and with W_hh."""
        hidden = range(self.gates if self.hidden else 0)
        return [*(f"x{n}" for n in range(self.inputs)), *(f"h{n}" for n in hidden)]

    @property
    def early(self) -> int:
        """The number of the first gates, which have no late product."""
        return self.gates - sum(len(stage.gates) for stage in self.stages)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The late products, in the order in which a step computes them."""
        return _stages(self.values)

    def run(self, inputs: dict[str, Any]) -> list[Any]:
        """Compute the results in PyTorch from tensors and numbers, by operand."""
        known = dict(inputs)

        def value(name: str) -> Any:
            return float(name) if is_number(name) else known[name]

        for n, (operation, *operands) in enumerate(self.values):
            known[f"v{n}"] = OPERATIONS[operation].function(*map(value, operands))
        return [value(result) for result in self.results]


@functools.lru_cache(maxsize=CACHE_SIZE)
def _stages(values: tuple[tuple[str, ...], ...]) -> tuple[Stage, ...]:
    found: dict[str, list[int]] = {}
    for operation, *operands in values:
        if operation == "product":
            weights, operand = operands
            found.setdefault(operand, []).append(int(weights[1:]))
    return tuple(Stage(operand, tuple(gates)) for operand, gates in found.items())


def is_number(operand: str) -> bool:
    """Return whether an operand is a constant. Names start with a letter."""
    return not operand[:1].isalpha()


def _is_literal(operand: str) -> bool:
    """Return whether an operand is exactly the repr of a finite float."""
    try:
        return math.isfinite(float(operand)) and repr(float(operand)) == operand
    except ValueError:
        return False


class Writer:
    """Collects values without duplicates, and simplifies operations without effect."""

    def __init__(self, values: Sequence[tuple[str, ...]] = ()) -> None:
        self.values = list(values)
        self._names = {value: f"v{n}" for n, value in enumerate(self.values)}

    def __call__(self, operation: str, *operands: str) -> str:
        """Add a value unless it exists, and return its name."""
        if (simplified := _simplify(operation, *operands)) is not None:
            return simplified
        if (simplified := self._simplify_negation(operation, *operands)) is not None:
            return simplified
        if operation in ("add", "mul"):
            operands = tuple(sorted(operands, key=_sort_key))
        value = (operation, *operands)
        if value not in self._names:
            self._names[value] = f"v{len(self.values)}"
            self.values.append(value)
        return self._names[value]

    def _simplify_negation(self, operation: str, *operands: str) -> str | None:
        """Simplify a + -b, a - -b and - -a."""
        if operation == "neg":
            return self._negated_operand(*operands)
        if operation == "add":
            for left, right in (operands, operands[::-1]):
                if (negated := self._negated_operand(right)) is not None:
                    return self("sub", left, negated)
        if operation == "sub" and (negated := self._negated_operand(operands[1])) is not None:
            return self("add", operands[0], negated)
        return None

    def _negated_operand(self, name: str) -> str | None:
        """Return the operand of a negation; None if the value is no negation."""
        value = self.values[int(name[1:])] if name[0] == "v" else ("",)
        return value[1] if value[0] == "neg" else None

    def program(
        self,
        gates: int,
        hidden: bool,
        states: int,
        parameters: int,
        inputs: int,
        results: Sequence[str],
    ) -> Program:
        """Return the program of these results, with its values renumbered."""
        names: dict[str, str] = {}
        live: list[tuple[str, ...]] = []
        for name in postorder(results, self._operands):
            if name[0] == "v":
                operation, *operands = self.values[int(name[1:])]
                names[name] = f"v{len(live)}"
                live.append((operation, *(names.get(operand, operand) for operand in operands)))
        outputs = tuple(names.get(result, result) for result in results)
        return Program(gates, hidden, states, parameters, inputs, tuple(live), outputs)

    def _operands(self, name: str) -> tuple[str, ...]:
        return self.values[int(name[1:])][1:] if name[0] == "v" else ()


def postorder(names: Iterable[str], operands: Callable[[str], Sequence[str]]) -> list[str]:
    """Return these names and their transitive operands, each once and after its operands.

    Iterative, because a chain of operations may exceed Python's recursion limit.
    """
    visited: dict[str, None] = {}
    for root in names:
        stack = [(root, False)]
        while stack:
            name, ready = stack.pop()
            if ready:
                visited[name] = None
            elif name not in visited:
                stack.append((name, True))
                stack += [(operand, False) for operand in reversed(operands(name))]
    return list(visited)


def _sort_key(operand: str) -> tuple[object, ...]:
    """Return a key that sorts x0 before h0 before v3, the usual order in equations."""
    if is_number(operand):
        return (0, 0, float(operand))
    return ("xhspdvge".index(operand[0]) + 1, int(operand[1:]), 0.0)


def _simplify(operation: str, *operands: str) -> str | None:
    """Return an operand or number that equals the value; None if there is none."""
    if operation == "mean" and is_number(operands[0]):
        return operands[0]
    if all(map(is_number, operands)) and operation in ("add", "sub", "mul", "neg"):
        left, *rest = map(float, operands)
        return repr(
            {"neg": lambda: -left, "add": lambda: left + rest[0]}.get(
                operation, lambda: left * rest[0] if operation == "mul" else left - rest[0]
            )()
        )
    if operation not in ("add", "sub", "mul", "div"):
        return None
    first, second = operands
    neutral = "0.0" if operation in ("add", "sub") else "1.0"
    if second == neutral:
        return first
    if first == neutral and operation in ("add", "mul"):
        return second
    if operation == "mul" and "0.0" in operands:
        return "0.0"
    return None
