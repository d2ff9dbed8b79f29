"""Functions that Triton lacks or computes less accurately."""

import triton
import triton.language as tl


@triton.jit
def tanh(x):
    """Return tanh(x). In single precision, a series near 0 avoids cancellation in 1 - e^(-2|x|)."""
    power = tl.exp(-2.0 * tl.abs(x))
    far = (1.0 - power) / (1.0 + power)
    far = tl.where(x < 0, -far, far)
    if x.dtype == tl.float32:
        square = x * x
        series = 2.0 / 15.0 + square * (-17.0 / 315.0 + square * (62.0 / 2835.0))
        far = tl.where(square < 0.06, x + x * square * (-1.0 / 3.0 + square * series), far)
    return far


@triton.jit
def softplus(x):
    """Return log(1 + e^x), accurate also where 1 + e^x rounds to 1."""
    power = tl.exp(-tl.abs(x))
    total = 1.0 + power
    rounded = tl.where(total == 1.0, 1.0, total - 1.0)
    return tl.maximum(x, 0.0) + tl.where(total == 1.0, power, tl.log(total) * (power / rounded))


@triton.jit
def mean(x, units, H: tl.constexpr):
    """Return the mean `(R, 1)` over the first H units of the rows `(R, U)`."""
    return tl.sum(tl.where(units < H, x, 0.0), 1, keep_dims=True) / H


@triton.jit
def dot(a, b, dtype: tl.constexpr, PRECISION: tl.constexpr):
    """Return a b in `dtype`. "widened" is for the interpreter, which lacks bfloat16."""
    if PRECISION == "widened":
        total = tl.dot(a.to(tl.float32), b.to(tl.float32), out_dtype=dtype)
    else:
        total = tl.dot(a, b, input_precision=PRECISION, out_dtype=dtype)
    return total


@triton.jit
def full_like(number: tl.constexpr, like):
    return tl.full(like.shape, number, like.dtype)
