"""Handwritten cells whose reset gate acts before the candidate's product, as native/cells.hpp.

The product of the last hidden slot reads `late_input`: the hidden state h, as the recurrent weights
read it, times the reset gate. `backward_late` maps the gradient e by that input to the rest of `dz`
and the gradient by h.
"""

import triton
import triton.language as tl

from seqcells.kernels.triton.numerics import full_like, tanh


@triton.jit
def late_input(z, h):
    """Return the input of the late product: the hidden state times the first gate."""
    return tl.sigmoid(z[0]) * h


@triton.jit
def recompute_late_input(saved, h):
    return saved[0] * h


@triton.jit
def gru_reset_before_forward(z, state, p, drop, units, H: tl.constexpr, group):
    r, u, n = tl.sigmoid(z[0]), tl.sigmoid(z[1]), tanh(z[2])
    return ((1 - u) * (n * drop) + u * state[0],), (r, u, n), ()


@triton.jit
def gru_reset_before_backward(
    saved, row, before, after, grad, p, drop, units, H: tl.constexpr, group
):
    u, n = saved[1], saved[2]
    du = grad[0] * (before[0] - n * drop) * u * (1 - u)
    dn = grad[0] * (1 - u) * drop * (1 - n * n)
    return (full_like(0.0, dn), du, dn), (), (grad[0] * u,)


@triton.jit
def gru_reset_before_backward_late(saved, h, e, dz):
    r = saved[0]
    return (e * h * r * (1 - r), dz[1], dz[2]), e * r


@triton.jit
def mgu_reset_before_forward(z, state, p, drop, units, H: tl.constexpr, group):
    f, n = tl.sigmoid(z[0]), tanh(z[1])
    return ((1 - f) * state[0] + f * (n * drop),), (f, n), ()


@triton.jit
def mgu_reset_before_backward(
    saved, row, before, after, grad, p, drop, units, H: tl.constexpr, group
):
    f, n = saved[0], saved[1]
    df = grad[0] * (n * drop - before[0]) * f * (1 - f)
    dn = grad[0] * f * drop * (1 - n * n)
    return (df, dn), (), (grad[0] * (1 - f),)


@triton.jit
def mgu_reset_before_backward_late(saved, h, e, dz):
    f = saved[0]
    return (dz[0] + e * h * f * (1 - f), dz[1]), e * f
