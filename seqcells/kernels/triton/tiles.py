"""Rows and steps of a program, for the forward and the backward kernel.

A program computes a tile `(R, U)`: R rows of the batch and U units. It holds all units if its
products or means read all of them. Row r runs step n = 0, 1, ... at time t, which decreases in
reverse. `at` is the index of that step in tensors `(T, B, ...)`, or `(N, ...)` if packed.
"""

import triton
import triton.language as tl


@triton.jit
def program_rows(row_info, B, T, ROWS: tl.constexpr):
    """Return the program's rows of the batch, which of them exist, and their numbers of steps."""
    order, lengths, starts, resets = row_info
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    nonempty = rows < B
    if order is not None:
        rows = tl.load(order + rows, nonempty, 0)
    ends = tl.where(nonempty, T, 0)
    if lengths is not None:
        ends = tl.load(lengths + rows, nonempty, 0)
    return rows.to(tl.int64), nonempty, ends.to(tl.int32)


@triton.jit
def program_units(UNITS: tl.constexpr):
    """Return the program's units, `(1, U)`."""
    return (tl.program_id(1) * UNITS + tl.arange(0, UNITS))[None, :]


@triton.jit
def locate_step(n, rows, ends, starts, B, REVERSE: tl.constexpr):
    """Return for step n of each row whether it is active, its time and its index."""
    active = (n >= 0) & (n < ends)
    t = (ends - 1 - n if REVERSE else n + 0 * ends).to(tl.int64)
    at = t * B
    if starts is not None:
        at = tl.load(starts + t, active, 0)
    return active, t, at + rows


@triton.jit
def load_units(data, rows, width, units, mask, dtype: tl.constexpr):
    """Load rows and convert them to `dtype`; masked values are 0."""
    return tl.load(data + rows[:, None] * width + units, mask, 0).to(dtype)


@triton.jit
def load_noise(data, step, t, rows, width, units, mask, dtype: tl.constexpr):
    return tl.load(data + t[:, None] * step + rows[:, None] * width + units, mask, 0).to(dtype)


@triton.jit
def load_resets(resets, t, rows, active, B):
    """Return which rows are reset before the step."""
    return active & (tl.load(resets + t * B + rows, active, 0) != 0)
