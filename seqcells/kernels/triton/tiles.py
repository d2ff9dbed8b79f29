"""Rows, steps and products of a program, for the forward and the backward kernel.

A program computes a tile `(R, U)`: R rows of the batch and U units. It holds all units if its
products or means read all of them. Row r runs step n = 0, 1, ... at time t, which decreases in
reverse. `at` is the index of that step in tensors `(T, B, ...)`, or `(N, ...)` if packed.
"""

import triton
import triton.language as tl

from seqcells.kernels.triton.numerics import dot


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


@triton.jit
def weight_tile(weight, gate, k, units, H: tl.constexpr, WIDTH: tl.constexpr):
    """Load columns k of a gate's recurrent weights, as `(K, U)`."""
    mask = (k < WIDTH)[:, None] & (units < H)
    return tl.load(weight + (gate * H + units).to(tl.int64) * WIDTH + k[:, None], mask, 0)


@triton.jit
def transposed_weight_tile(weight, gate, k, wide, H: tl.constexpr, WIDTH: tl.constexpr):
    """Load rows k of a gate's recurrent weights, as `(K, W)`."""
    mask = (k < H)[:, None] & (wide < WIDTH)
    return tl.load(weight + (gate * H + k).to(tl.int64)[:, None] * WIDTH + wide, mask, 0)


@triton.jit
def products(
    source, rows, nonempty, weight, units, dtype: tl.constexpr, GATES: tl.constexpr,
    H: tl.constexpr, WIDTH: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Return `W h` for each gate, reading h `(B, WIDTH)` from memory in chunks of units."""
    sums = ()
    for _ in tl.static_range(len(GATES)):
        sums = sums + (tl.zeros((rows.shape[0], units.shape[1]), dtype),)
    for start in range(0, WIDTH, CHUNK):
        k = start + tl.arange(0, CHUNK)
        mask = nonempty[:, None] & (k < WIDTH)[None, :]
        h = tl.load(source + rows[:, None] * WIDTH + k[None, :], mask, 0)
        added = ()
        for s in tl.static_range(len(GATES)):
            tile = weight_tile(weight, GATES[s], k, units, H, WIDTH)
            added = added + (sums[s] + dot(h, tile, dtype, PRECISION),)
        sums = added
    return sums


@triton.jit
def transposed_products(
    source, rows, nonempty, weight, wide, dtype: tl.constexpr, GATES: tl.constexpr, H: tl.constexpr,
    WIDTH: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Return the sum of `W^T dz` over the gates, reading dz `(B, len(GATES) * H)` from memory."""
    total = tl.zeros((rows.shape[0], wide.shape[1]), dtype)
    for s in tl.static_range(len(GATES)):
        for start in range(0, H, CHUNK):
            k = start + tl.arange(0, CHUNK)
            mask = nonempty[:, None] & (k < H)[None, :]
            dz = tl.load(source + rows[:, None] * (len(GATES) * H) + s * H + k[None, :], mask, 0)
            tile = transposed_weight_tile(weight, GATES[s], k, wide, H, WIDTH)
            total += dot(dz, tile, dtype, PRECISION)
    return total
