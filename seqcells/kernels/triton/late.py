"""The cells that `source.py` does not write: they have a product between their gates.

That product, of the last hidden slot, reads what `late` makes of the hidden state h as the
recurrent weights read it. Of its gradient e, `late_backward` makes what the others still lack: the
rest of `dz`, and the gradient by h that does not pass through it. native/cells.hpp has the
equations.
"""

import triton
import triton.language as tl

from seqcells.kernels.triton.maths import filled, tanh


@triton.jit
def late(z, h):
    """What the last product reads: the hidden state through the first gate."""
    return tl.sigmoid(z[0]) * h


@triton.jit
def late_again(keep, h):
    return keep[0] * h


@triton.jit
def gru_reset_before_forward(z, state, p, drop, units, H: tl.constexpr, group):
    r, u, n = tl.sigmoid(z[0]), tl.sigmoid(z[1]), tanh(z[2])
    return ((1 - u) * (n * drop) + u * state[0],), (r, u, n), ()


@triton.jit
def gru_reset_before_backward(
    keep, row, before, after, grad, p, drop, units, H: tl.constexpr, group
):
    u, n = keep[1], keep[2]
    du = grad[0] * (before[0] - n * drop) * u * (1 - u)
    dn = grad[0] * (1 - u) * drop * (1 - n * n)
    return (filled(0.0, dn), du, dn), (), (grad[0] * u,)


@triton.jit
def gru_reset_before_late_backward(keep, h, e, dz):
    r = keep[0]
    return (e * h * r * (1 - r), dz[1], dz[2]), e * r


@triton.jit
def mgu_reset_before_forward(z, state, p, drop, units, H: tl.constexpr, group):
    f, n = tl.sigmoid(z[0]), tanh(z[1])
    return ((1 - f) * state[0] + f * (n * drop),), (f, n), ()


@triton.jit
def mgu_reset_before_backward(
    keep, row, before, after, grad, p, drop, units, H: tl.constexpr, group
):
    f, n = keep[0], keep[1]
    df = grad[0] * (n * drop - before[0]) * f * (1 - f)
    dn = grad[0] * f * drop * (1 - n * n)
    return (df, dn), (), (grad[0] * (1 - f),)


@triton.jit
def mgu_reset_before_late_backward(keep, h, e, dz):
    f = keep[0]
    return (dz[0] + e * h * f * (1 - f), dz[1]), e * f
