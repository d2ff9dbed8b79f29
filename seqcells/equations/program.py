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
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

# How many programs stay in a cache: a number that changes at each step makes a new one each time.
CACHED = 256

# What a program may compute, by name, with the number of its operands.
OPERATIONS = {
    **dict.fromkeys(("add", "sub", "mul", "div"), 2),
    **dict.fromkeys(("neg", "abs", "exp", "sigmoid", "tanh", "relu", "softplus"), 1),
    **dict.fromkeys(("sqrt", "rsqrt", "mean"), 1),
    "where_positive": 3,  # a > 0 ? b : c
}
# Those worth keeping for the gradient in place of computing them twice.
COSTLY = ("div", "exp", "sigmoid", "tanh", "softplus", "sqrt", "rsqrt", "mean")


class UntraceableError(ValueError):
    """Why an `activate` cannot be made into a program."""


class Program(NamedTuple):
    """What a step does to one unit; `str` writes it, `parse` reads it."""

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
        """The program of this text.

        Raises:
            ValueError: a text that is none.
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
            if OPERATIONS.get(operation) != len(operands):
                return False
            if not all(operand in known or _is_written(operand) for operand in operands):
                return False
            known.add(f"v{n}")
        return len(self.results) == self.states and all(
            result in known or _is_written(result) for result in self.results
        )

    @property
    def drops(self) -> bool:
        """Whether it takes a factor."""
        return any("d0" in value for value in self.values)

    @property
    def whole_rows(self) -> bool:
        """Whether a unit sees others beside the products."""
        return any(value[0] == "mean" for value in self.values)

    @property
    def products(self) -> str:
        """The kinds of products: with the input, and with the hidden state."""
        return "xh" if self.hidden else "x"

    def run(self, inputs: dict[str, object], apply: Callable[..., object]) -> list[object]:
        """The results, of whatever `apply(operation, *operands)` makes of each value."""
        known = dict(inputs)

        def value(name: str) -> object:
            return float(name) if is_number(name) else known[name]

        for n, (operation, *operands) in enumerate(self.values):
            known[f"v{n}"] = apply(operation, *map(value, operands))
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
    """Collects values, each once, and leaves out what changes nothing."""

    def __init__(self, values: Sequence[tuple[str, ...]] = ()) -> None:
        self.values = list(values)
        self._names = {value: f"v{n}" for n, value in enumerate(self.values)}

    def __call__(self, operation: str, *operands: str) -> str:
        """The name of this value."""
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
        """a + -b, a - -b and - -a."""
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
        """What `name` is the negative of, if it is one."""
        value = self.values[int(name[1:])] if name[0] == "v" else ("",)
        return value[1] if value[0] == "neg" else None

    def program(
        self, gates: int, hidden: bool, states: int, parameters: int, results: Sequence[str]
    ) -> Program:
        """All that the results need, numbered anew."""
        names: dict[str, str] = {}
        kept: list[tuple[str, ...]] = []

        def visit(name: str) -> str:
            if name[0] != "v" or name in names:
                return names.get(name, name)
            operation, *operands = self.values[int(name[1:])]
            value = (operation, *map(visit, operands))
            names[name] = f"v{len(kept)}"
            kept.append(value)
            return names[name]

        found = tuple(visit(result) for result in results)
        return Program(gates, hidden, states, parameters, tuple(kept), found)


def _order(operand: str) -> tuple[object, ...]:
    """x0 before h0 before v3, as a person would write it."""
    if is_number(operand):
        return (0, 0, float(operand))
    return ("xhspdvg".index(operand[0]) + 1, int(operand[1:]), 0.0)


def _shortened(operation: str, *operands: str) -> str | None:
    """The operand or number that a value is equal to, where it is."""
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
    left, right = operands
    neutral = "0.0" if operation in ("add", "sub") else "1.0"
    if right == neutral:
        return left
    if left == neutral and operation in ("add", "mul"):
        return right
    if operation == "mul" and "0.0" in operands:
        return "0.0"
    return None


def differentiate(program: Program) -> tuple[Writer, dict[str, str]]:
    """The gradient, given `g0`, `g1`, ..., that by the parts of the state after the step.

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
        for operand, part in zip(operands, _RULES[operation](write, gradient, f"v{n}", *operands)):
            add(operand, part)
    names = [f"{kind}{n}" for kind in program.products for n in range(program.gates)]
    names += [f"s{n}" for n in range(program.states)]
    names += [f"p{n}" for n in range(program.parameters)]
    return write, {name: gradients.get(name, "0.0") for name in names}


# From the gradient g by y = operation(a, b, c), those by a, b and c. tanh' = 1 - y^2,
# sigma' = y (1 - y), (a / b)' = (1 / b, -y / b). Every unit reads the mean, y_j = sum_k a_k / H, so
# that the gradient by a_k is sum_j g_j / H: the mean of g.
_RULES: dict[str, Callable[..., tuple[str, ...]]] = {
    "add": lambda w, g, y, a, b: (g, g),
    "sub": lambda w, g, y, a, b: (g, w("neg", g)),
    "mul": lambda w, g, y, a, b: (w("mul", g, b), w("mul", g, a)),
    "div": lambda w, g, y, a, b: (
        w("div", g, b),
        w("neg", w("div", w("mul", g, y), b)),
    ),
    "neg": lambda w, g, y, a: (w("neg", g),),
    "exp": lambda w, g, y, a: (w("mul", g, y),),
    "softplus": lambda w, g, y, a: (w("mul", g, w("sigmoid", a)),),
    "sigmoid": lambda w, g, y, a: (w("mul", g, w("mul", y, w("sub", "1.0", y))),),
    "sqrt": lambda w, g, y, a: (w("div", g, w("mul", "2.0", y)),),
    "rsqrt": lambda w, g, y, a: (w("mul", g, w("mul", "-0.5", w("mul", y, w("mul", y, y)))),),
    "mean": lambda w, g, y, a: (w("mean", g),),
    "tanh": lambda w, g, y, a: (w("mul", g, w("sub", "1.0", w("mul", y, y))),),
    "relu": lambda w, g, y, a: (w("where_positive", y, g, "0.0"),),
    "abs": lambda w, g, y, a: (
        w("where_positive", a, g, w("where_positive", w("neg", a), w("neg", g), "0.0")),
    ),
    "where_positive": lambda w, g, y, a, b, c: (
        "0.0",
        w("where_positive", a, g, "0.0"),
        w("where_positive", a, "0.0", g),
    ),
}
