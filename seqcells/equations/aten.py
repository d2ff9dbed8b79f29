"""Translate PyTorch operators to the operations of a `Program`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from seqcells.equations.program import UntraceableError, Writer

aten = torch.ops.aten

# Operators that translate to one operation with the same operands.
SINGLE = {
    aten.add.Tensor: "add",
    aten.add.Scalar: "add",
    aten.sub.Tensor: "sub",
    aten.sub.Scalar: "sub",
    aten.mul.Tensor: "mul",
    aten.mul.Scalar: "mul",
    aten.div.Tensor: "div",
    aten.div.Scalar: "div",
    aten.neg.default: "neg",
    aten.abs.default: "abs",
    aten.exp.default: "exp",
    aten.sigmoid.default: "sigmoid",
    aten.tanh.default: "tanh",
    aten.relu.default: "relu",
    aten.softplus.default: "softplus",
    aten.sqrt.default: "sqrt",
    aten.rsqrt.default: "rsqrt",
}

# Operators that translate to several operations.
COMPOSITE: dict[Any, Callable[..., str]] = {
    aten.rsub.Scalar: lambda w, a, b: w("sub", b, a),
    aten.reciprocal.default: lambda w, a: w("div", "1.0", a),
    aten.square.default: lambda w, a: w("mul", a, a),
    aten.pow.Tensor_Scalar: lambda w, a, n: _power(w, a, n),
    aten.silu.default: lambda w, a: w("mul", a, w("sigmoid", a)),
    aten.leaky_relu.default: lambda w, a, slope="0.01": w(
        "where_positive", a, a, w("mul", a, slope)
    ),
    aten.elu.default: lambda w, a, alpha="1.0": w(
        "where_positive", a, a, w("mul", alpha, w("sub", w("exp", _negative_part(w, a)), "1.0"))
    ),
    aten.clamp.default: lambda w, a, low=None, high=None: _clamp(w, a, low, high),
    aten.clamp_min.default: lambda w, a, low: _clamp(w, a, low, None),
    aten.clamp_max.default: lambda w, a, high: _clamp(w, a, None, high),
    aten.hardtanh.default: lambda w, a, low="-1.0", high="1.0": _hardtanh(w, a, low, high),
    aten.maximum.default: lambda w, a, b: _select_larger(w, a, b, a, b),
    aten.minimum.default: lambda w, a, b: _select_larger(w, a, b, b, a),
}

# Reductions over a row.
REDUCTIONS = (aten.mean.dim, aten.sum.dim_IntList, aten.native_layer_norm.default)

# Operators that only rearrange units.
REARRANGEMENTS = (
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.chunk.default,
    aten.cat.default,
)
SLICES = (aten.slice.Tensor, aten.clone.default, aten.alias.default)

SUPPORTED = (*SINGLE, *COMPOSITE, *REDUCTIONS, *REARRANGEMENTS, *SLICES)
SUPPORTED_NAMES = ", ".join(
    sorted({str(op).split(".")[1].removeprefix("native_") for op in SUPPORTED})
)


def _power(write: Writer, value: str, exponent: str) -> str:
    whole = int(float(exponent))
    if whole != float(exponent) or not 1 <= whole <= 4:
        raise UntraceableError(f"activate: expected powers from 1 to 4, got {exponent}")
    result = value
    for _ in range(whole - 1):
        result = write("mul", result, value)
    return result


# Gradients at ties match PyTorch: at a bound, `clamp` passes the gradient on, and `hardtanh` does
# not. If both values are equal, `maximum` and `minimum` give each one half.


def _clamp(write: Writer, value: str, low: str | None, high: str | None) -> str:
    if low is not None:
        value = write("where_positive", write("sub", low, value), low, value)
    if high is not None:
        value = write("where_positive", write("sub", value, high), high, value)
    return value


def _hardtanh(write: Writer, value: str, low: str, high: str) -> str:
    value = write("where_positive", write("sub", value, low), value, low)
    return write("where_positive", write("sub", high, value), value, high)


def _select_larger(write: Writer, a: str, b: str, if_larger: str, if_smaller: str) -> str:
    """Return `if_larger` where a > b, `if_smaller` where a < b, else the mean of a and b."""
    equal = write("mul", "0.5", write("add", a, b))
    difference = write("sub", a, b)
    smaller = write("where_positive", write("neg", difference), if_smaller, equal)
    return write("where_positive", difference, if_larger, smaller)


def _negative_part(write: Writer, value: str) -> str:
    """Return min(value, 0), whose exponential is finite."""
    return write("where_positive", value, "0.0", value)
