"""Programs: a cell's elementwise part in static single assignment form, and its gradient.

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
- `s0`, `s1`: the parts of the state before the step
- `p0`, `p1`, ...: parameters that the step reads outside the products, one number per unit
- `d0`: the factor of a `Noise` that the step applies outside the products (`protocol.factor_of`),
  1 without noise

`mean`, the mean over the row, is the only operation that reads other units. A program returns the
parts of the state after the step, the hidden state first.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Self

from seqcells.equations.operations import OPERATIONS

# Bounds the caches of programs: a constant that changes at each step adds a program each time.
CACHE_SIZE = 256


class UntraceableError(ValueError):
    """Raised with the reason if a program cannot express an `activate`."""


class Program(NamedTuple):
    """The step of one unit. `str` returns its text, and `parse` reads it."""

    gates: int
    hidden: bool  # whether each gate has a product with the hidden state
    states: int
    parameters: int
    values: tuple[tuple[str, ...], ...]
    results: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"v{n} = {' '.join(value)}" for n, value in enumerate(self.values)]
        numbers = zip(self._fields, map(int, self[:4]))
        head = " ".join(f"{name} {number}" for name, number in numbers)
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
            gates, hidden, states, parameters = map(int, head.split()[1::2])
            values = tuple(tuple(line.split(" = ")[1].split()) for line in lines)
            program = cls(gates, bool(hidden), states, parameters, values, tuple(last.split()[1:]))
        except (IndexError, ValueError) as error:
            raise ValueError(f"expected the text of a program, got {text!r}") from error
        if str(program) != text or not program._is_valid():
            raise ValueError(f"expected the text of a program, got {text!r}")
        return program

    def _is_valid(self) -> bool:
        known = {f"{kind}{n}" for kind in self.products for n in range(self.gates)}
        known |= {f"s{n}" for n in range(self.states)} | {f"p{n}" for n in range(self.parameters)}
        known.add("d0")
        for n, (operation, *operands) in enumerate(self.values):
            if operation not in OPERATIONS or OPERATIONS[operation].arity != len(operands):
                return False
            if not all(operand in known or _is_literal(operand) for operand in operands):
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
    def products(self) -> str:
        """The kinds of products: with the input, and with the hidden state."""
        return "xh" if self.hidden else "x"

    def run(self, inputs: dict[str, Any]) -> list[Any]:
        """Compute the results in PyTorch from tensors and numbers, by operand."""
        known = dict(inputs)

        def value(name: str) -> Any:
            return float(name) if is_number(name) else known[name]

        for n, (operation, *operands) in enumerate(self.values):
            known[f"v{n}"] = OPERATIONS[operation].function(*map(value, operands))
        return [value(result) for result in self.results]


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
        self, gates: int, hidden: bool, states: int, parameters: int, results: Sequence[str]
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
        return Program(gates, hidden, states, parameters, tuple(live), outputs)

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
    return ("xhspdvg".index(operand[0]) + 1, int(operand[1:]), 0.0)


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


def differentiate(program: Program) -> tuple[Writer, dict[str, str]]:
    """Return the gradient, with `g0`, `g1`, ... the gradient by the parts of the new state.

    Returns:
        A writer with the values of the program and of its gradient, and the name of the gradient
        by each operand of the program.
    """
    write = Writer(program.values)
    gradients: dict[str, str] = {}

    def add(name: str, gradient: str) -> None:
        if not is_number(name):
            before = gradients.get(name, "0.0")
            gradients[name] = write("add", before, gradient)

    for n, result in enumerate(program.results):
        add(result, f"g{n}")
    for n in reversed(range(len(program.values))):
        if (gradient := gradients.pop(f"v{n}", "0.0")) == "0.0":
            continue
        operation, *operands = program.values[n]
        rule = OPERATIONS[operation].gradient
        for operand, part in zip(operands, rule(write, gradient, f"v{n}", *operands)):
            add(operand, part)
    names = [f"{kind}{n}" for kind in program.products for n in range(program.gates)]
    names += [f"s{n}" for n in range(program.states)]
    names += [f"p{n}" for n in range(program.parameters)]
    return write, {name: gradients.get(name, "0.0") for name in names}
