"""What the equations are made of that Triton has not, or not to the last digits."""

import triton
import triton.language as tl


@triton.jit
def tanh(x):
    """Near 0, where 1 - e^(-2|x|) would lose its digits, by its series in single precision."""
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
    """log(1 + e^x), also where 1 + e^x is rounded to 1."""
    power = tl.exp(-tl.abs(x))
    total = 1.0 + power
    rounded = tl.where(total == 1.0, 1.0, total - 1.0)
    return tl.maximum(x, 0.0) + tl.where(total == 1.0, power, tl.log(total) * (power / rounded))


@triton.jit
def mean(x, units, H: tl.constexpr):
    """Over the row `(R, U)`, of which the first H units are there: `(R, 1)`."""
    return tl.sum(tl.where(units < H, x, 0.0), 1, keep_dims=True) / H


@triton.jit
def dot(a, b, like: tl.constexpr, PRECISION: tl.constexpr):
    """a b in the `like` type; by "widened" precision for an interpreter that lacks bfloat16."""
    if PRECISION == "widened":
        total = tl.dot(a.to(tl.float32), b.to(tl.float32), out_dtype=like)
    else:
        total = tl.dot(a, b, input_precision=PRECISION, out_dtype=like)
    return total


@triton.jit
def filled(number: tl.constexpr, like):
    return tl.full(like.shape, number, like.dtype)
