"""A cell's elementwise part as a short program, and its gradient as another.

The text of a `Program` says what a step does to one unit, in single assignments::

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

`x0`, `x1` and `h0`, `h1` are the gates' products with the input and with the hidden state, biases
included (`hidden 0`: there are none with the hidden state), `s0` and `s1` the parts of the state
before the step, `p0`, `p1`, ... the parameters that the step has beside them, one number a unit,
and `d0` the one factor of a `Noise` that a step reads beside the products (`programs.factor_of`), 1
where there is none. `mean` is the one operation that sees other units: the mean over the row. A
program returns the parts of the state after the step, the hidden one first.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Self

from seqcells.equations.operations import OPERATIONS

# How many programs stay in a cache: a number that changes at each step makes a new one each time.
CACHED = 256


class UntraceableError(ValueError):
    """Raised for an `activate` that no program can state, with the reason."""


class Program(NamedTuple):
    """The step of one unit; `str` writes it, `parse` reads it."""

    gates: int
    hidden: bool  # whether there is a product with the hidden state, for each gate
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
    @functools.lru_cache(maxsize=CACHED)
    def parse(cls, text: str) -> Self:
        """Return the program of this text.

        Raises:
            ValueError: a text that is no program.
        """
        try:
            head, *lines, last = text.split("\n")
            gates, hidden, states, parameters = map(int, head.split()[1::2])
            values = tuple(tuple(line.split(" = ")[1].split()) for line in lines)
            program = cls(gates, bool(hidden), states, parameters, values, tuple(last.split()[1:]))
        except (IndexError, ValueError) as error:
            raise ValueError(f"expected the text of a program, got {text!r}") from error
        if str(program) != text or not program._is_sound():
            raise ValueError(f"expected the text of a program, got {text!r}")
        return program

    def _is_sound(self) -> bool:
        known = {f"{kind}{n}" for kind in self.products for n in range(self.gates)}
        known |= {f"s{n}" for n in range(self.states)} | {f"p{n}" for n in range(self.parameters)}
        known.add("d0")
        for n, (operation, *operands) in enumerate(self.values):
            if operation not in OPERATIONS or OPERATIONS[operation].arity != len(operands):
                return False
            if not all(operand in known or _is_written(operand) for operand in operands):
                return False
            known.add(f"v{n}")
        return len(self.results) == self.states and all(
            result in known or _is_written(result) for result in self.results
        )

    @property
    def drops(self) -> bool:
        """Whether the step takes a factor."""
        return any("d0" in value for value in self.values)

    @property
    def whole_rows(self) -> bool:
        """Whether a unit reads others outside the products."""
        return any(value[0] == "mean" for value in self.values)

    @property
    def products(self) -> str:
        """The kinds of products: with the input, and with the hidden state."""
        return "xh" if self.hidden else "x"

    def run(self, inputs: dict[str, Any]) -> list[Any]:
        """Compute the results in PyTorch from the tensors and numbers of the `inputs`."""
        known = dict(inputs)

        def value(name: str) -> Any:
            return float(name) if is_number(name) else known[name]

        for n, (operation, *operands) in enumerate(self.values):
            known[f"v{n}"] = OPERATIONS[operation].meaning(*map(value, operands))
        return [value(result) for result in self.results]


def is_number(operand: str) -> bool:
    """Whether an operand is a constant; others are names, which start with a letter."""
    return not operand[:1].isalpha()


def _is_written(operand: str) -> bool:
    """Whether an operand is a constant as Python writes it, and nothing else."""
    try:
        return math.isfinite(float(operand)) and repr(float(operand)) == operand
    except ValueError:
        return False


class Writer:
    """Collects values, each once, and drops operations without effect."""

    def __init__(self, values: Sequence[tuple[str, ...]] = ()) -> None:
        self.values = list(values)
        self._names = {value: f"v{n}" for n, value in enumerate(self.values)}

    def __call__(self, operation: str, *operands: str) -> str:
        """Return the name of this value."""
        if (short := _shortened(operation, *operands)) is not None:
            return short
        if (short := self._without_negative(operation, *operands)) is not None:
            return short
        if operation in ("add", "mul"):
            operands = tuple(sorted(operands, key=_order))
        value = (operation, *operands)
        if value not in self._names:
            self._names[value] = f"v{len(self.values)}"
            self.values.append(value)
        return self._names[value]

    def _without_negative(self, operation: str, *operands: str) -> str | None:
        """Simplify a + -b, a - -b and - -a."""
        if operation == "neg":
            return self._negated(*operands)
        if operation == "add":
            for left, right in (operands, operands[::-1]):
                if (negated := self._negated(right)) is not None:
                    return self("sub", left, negated)
        if operation == "sub" and (negated := self._negated(operands[1])) is not None:
            return self("add", operands[0], negated)
        return None

    def _negated(self, name: str) -> str | None:
        """Return the value whose negative this is, if it is one."""
        value = self.values[int(name[1:])] if name[0] == "v" else ("",)
        return value[1] if value[0] == "neg" else None

    def program(
        self, gates: int, hidden: bool, states: int, parameters: int, results: Sequence[str]
    ) -> Program:
        """Return the program of these results, with its values renumbered."""
        names: dict[str, str] = {}
        kept: list[tuple[str, ...]] = []
        for name in postorder(results, self._operands):
            if name[0] == "v":
                operation, *operands = self.values[int(name[1:])]
                names[name] = f"v{len(kept)}"
                kept.append((operation, *(names.get(operand, operand) for operand in operands)))
        found = tuple(names.get(result, result) for result in results)
        return Program(gates, hidden, states, parameters, tuple(kept), found)

    def _operands(self, name: str) -> tuple[str, ...]:
        return self.values[int(name[1:])][1:] if name[0] == "v" else ()


def postorder(names: Iterable[str], operands: Callable[[str], Sequence[str]]) -> list[str]:
    """Return these names and all that they depend on, each once and after its operands.

    A loop and no recursion, because a chain of operations may be longer than Python's stack.
    """
    found: dict[str, None] = {}
    for root in names:
        stack = [(root, False)]
        while stack:
            name, ready = stack.pop()
            if ready:
                found[name] = None
            elif name not in found:
                stack.append((name, True))
                stack += [(operand, False) for operand in reversed(operands(name))]
    return list(found)


def _order(operand: str) -> tuple[object, ...]:
    """Sort x0 before h0 before v3, as a person would write it."""
    if is_number(operand):
        return (0, 0, float(operand))
    return ("xhspdvg".index(operand[0]) + 1, int(operand[1:]), 0.0)


def _shortened(operation: str, *operands: str) -> str | None:
    """Return the operand or number that a value is equal to, if there is one."""
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
    """Return the gradient, given `g0`, `g1`, ..., that by the parts of the state after the step.

    Returns:
        A writer that holds the program's own values and the gradient's, and the name of the
        gradient by each of the program's inputs.
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
