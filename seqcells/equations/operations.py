"""The operations of a `Program`: one table row defines each operation completely.

To add an operation, add a row and run `make kernels`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

# Writes a value and returns its name: `write("mul", "v1", "x0")`.
Write = Callable[..., str]
Gradient = Callable[..., tuple[str, ...]]


class Operation(NamedTuple):
    """One operation of a `Program`.

    Attributes:
        arity: the number of operands.
        function: the function of tensors.
        gradient: the gradients by the operands. Its arguments are `write`, the name of the
            gradient by the result, the name of the result, and the names of the operands.
        cpp: the C++ expression, with the operands as `{0}`, `{1}`, `{2}`.
        triton: the Triton expression. An operation without an expression is divided into phases
            (`equations.lowering`).
        costly: whether the result is saved for the backward pass instead of recomputed.
        accepts_scalars: whether the C++ expression accepts scalars as well as vectors.
    """

    name: str
    arity: int
    function: Callable[..., Any]
    gradient: Gradient
    cpp: str = ""
    triton: str = ""
    costly: bool = False
    accepts_scalars: bool = False


def _grad_div(w: Write, g: str, y: str, a: str, b: str) -> tuple[str, ...]:
    return w("div", g, b), w("neg", w("div", w("mul", g, y), b))


def _grad_abs(w: Write, g: str, y: str, a: str) -> tuple[str, ...]:
    below = w("where_positive", w("neg", a), w("neg", g), "0.0")
    return (w("where_positive", a, g, below),)


def _grad_where(w: Write, g: str, y: str, a: str, b: str, c: str) -> tuple[str, ...]:
    return "0.0", w("where_positive", a, g, "0.0"), w("where_positive", a, "0.0", g)


_OPERATIONS = (
    Operation(
        "add",
        2,
        operator.add,
        lambda w, g, y, a, b: (g, g),
        cpp="{0} + {1}",
        triton="{0} + {1}",
        accepts_scalars=True,
    ),
    Operation(
        "sub",
        2,
        operator.sub,
        lambda w, g, y, a, b: (g, w("neg", g)),
        cpp="{0} - {1}",
        triton="{0} - {1}",
        accepts_scalars=True,
    ),
    Operation(
        "mul",
        2,
        operator.mul,
        lambda w, g, y, a, b: (w("mul", g, b), w("mul", g, a)),
        cpp="{0} * {1}",
        triton="{0} * {1}",
        accepts_scalars=True,
    ),
    Operation(
        "div",
        2,
        operator.truediv,
        _grad_div,
        cpp="{0} / {1}",
        triton="{0} / {1}",
        costly=True,
        accepts_scalars=True,
    ),
    Operation(
        "neg",
        1,
        operator.neg,
        lambda w, g, y, a: (w("neg", g),),
        cpp="-{0}",
        triton="-{0}",
        accepts_scalars=True,
    ),
    Operation(
        "abs",
        1,
        torch.abs,
        _grad_abs,
        cpp="select({0} < V{{}}, -{0}, {0})",
        triton="tl.abs({0})",
    ),
    Operation(
        "exp",
        1,
        torch.exp,
        lambda w, g, y, a: (w("mul", g, y),),
        cpp="exp<T>({0})",
        triton="tl.exp({0})",
        costly=True,
    ),
    Operation(
        "sigmoid",  # y' = y (1 - y)
        1,
        torch.sigmoid,
        lambda w, g, y, a: (w("mul", g, w("mul", y, w("sub", "1.0", y))),),
        cpp="sigmoid<T>({0})",
        triton="tl.sigmoid({0})",
        costly=True,
    ),
    Operation(
        "tanh",  # y' = 1 - y^2
        1,
        torch.tanh,
        lambda w, g, y, a: (w("mul", g, w("sub", "1.0", w("mul", y, y))),),
        cpp="tanh<T>({0})",
        triton="tanh({0})",
        costly=True,
    ),
    Operation(
        "relu",
        1,
        torch.relu,
        lambda w, g, y, a: (w("where_positive", y, g, "0.0"),),
        cpp="select({0} < V{{}}, V{{}}, {0})",
        triton="tl.where({0} > 0, {0}, 0.0)",
    ),
    Operation(
        "softplus",
        1,
        F.softplus,
        lambda w, g, y, a: (w("mul", g, w("sigmoid", a)),),
        cpp="softplus<T>({0})",
        triton="softplus({0})",
        costly=True,
    ),
    Operation(
        "sqrt",
        1,
        torch.sqrt,
        lambda w, g, y, a: (w("div", g, w("mul", "2.0", y)),),
        cpp="sqrt<T>({0})",
        triton="tl.sqrt({0})",
        costly=True,
    ),
    Operation(
        "rsqrt",  # y' = -y^3 / 2
        1,
        torch.rsqrt,
        lambda w, g, y, a: (w("mul", g, w("mul", "-0.5", w("mul", y, w("mul", y, y)))),),
        cpp="T(1) / sqrt<T>({0})",
        triton="1.0 / tl.sqrt({0})",
        costly=True,
    ),
    # The mean over a row of H units. Every unit reads it, so the gradient by a unit is the sum of
    # the gradients by all results divided by H, which is their mean.
    Operation(
        "mean",
        1,
        lambda a: a.mean(-1, keepdim=True),
        lambda w, g, y, a: (w("mean", g),),
        costly=True,
    ),
    # The product of a gate's recurrent weights, given as a function, with another value than the
    # hidden state. `differentiate` has its gradient.
    Operation(
        "product",
        2,
        lambda multiply, a: multiply(a),
        lambda w, g, y, weights, a: ("0.0", "0.0"),
        costly=True,
    ),
    Operation(
        "where_positive",  # a > 0 ? b : c
        3,
        lambda a, b, c: torch.where(a > 0, b, c),
        _grad_where,
        cpp="select({0} > V{{}}, {1}, {2})",
        triton="tl.where({0} > 0, {1}, {2})",
    ),
)
OPERATIONS = {row.name: row for row in _OPERATIONS}

# Opcodes of the interpreter, in the order of native/operations.hpp.
OPCODES = {
    name: number for number, name in enumerate(n for n, row in OPERATIONS.items() if row.cpp)
}
