"""What both directions of time share: a program's rows, their steps, and its products.

A program has a tile of `(R, U)`: R rows of the batch and U units, all of them where its products or
means need all. Row r takes its step n = 0, 1, ... at the time t, which falls in reverse; `at` is
where that step stands in what is `(T, B, ...)`, or packed, `(N, ...)`.
"""

import triton
import triton.language as tl

from seqcells.kernels.triton.maths import dot


@triton.jit
def rows_of(given, B, T, ROWS: tl.constexpr):
    """The program's rows of the batch, which of them are there, and how many steps each takes."""
    order, lengths, starts, resets = given
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    there = rows < B
    if order is not None:
        rows = tl.load(order + rows, there, 0)
    ends = tl.where(there, T, 0)
    if lengths is not None:
        ends = tl.load(lengths + rows, there, 0)
    return rows.to(tl.int64), there, ends.to(tl.int32)


@triton.jit
def units_of(UNITS: tl.constexpr):
    """The program's units, `(1, U)`."""
    return (tl.program_id(1) * UNITS + tl.arange(0, UNITS))[None, :]


@triton.jit
def place(n, rows, ends, starts, B, REVERSE: tl.constexpr):
    """Of each row's step n: whether it is taken, its time, and where it stands."""
    taken = (n >= 0) & (n < ends)
    t = (ends - 1 - n if REVERSE else n + 0 * ends).to(tl.int64)
    at = t * B
    if starts is not None:
        at = tl.load(starts + t, taken, 0)
    return taken, t, at + rows


@triton.jit
def loaded(data, rows, width, units, mask, like: tl.constexpr):
    """Rows of numbers in the precision that is computed in; 0 where the mask is not."""
    return tl.load(data + rows[:, None] * width + units, mask, 0).to(like)


@triton.jit
def noise_at(data, step, t, rows, width, units, mask, like: tl.constexpr):
    return tl.load(data + t[:, None] * step + rows[:, None] * width + units, mask, 0).to(like)


@triton.jit
def restarts(resets, t, rows, taken, B):
    """Which rows restart before the step."""
    return taken & (tl.load(resets + t * B + rows, taken, 0) != 0)


@triton.jit
def weight_tile(weight, gate, k, units, H: tl.constexpr, WIDTH: tl.constexpr):
    """Of a gate's recurrent weights the columns k, as `(K, U)`."""
    mask = (k < WIDTH)[:, None] & (units < H)
    return tl.load(weight + (gate * H + units).to(tl.int64) * WIDTH + k[:, None], mask, 0)


@triton.jit
def weight_tile_back(weight, gate, k, wide, H: tl.constexpr, WIDTH: tl.constexpr):
    """Of a gate's recurrent weights the rows k, as `(K, W)`."""
    mask = (k < H)[:, None] & (wide < WIDTH)
    return tl.load(weight + (gate * H + k).to(tl.int64)[:, None] * WIDTH + wide, mask, 0)


@triton.jit
def products(
    source, rows, there, weight, units, like: tl.constexpr, GATES: tl.constexpr, H: tl.constexpr,
    WIDTH: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`W h` for each gate, h `(B, WIDTH)` read from memory, a chunk of its units at a time."""
    sums = ()
    for _ in tl.static_range(len(GATES)):
        sums = sums + (tl.zeros((rows.shape[0], units.shape[1]), like),)
    for start in range(0, WIDTH, CHUNK):
        k = start + tl.arange(0, CHUNK)
        mask = there[:, None] & (k < WIDTH)[None, :]
        h = tl.load(source + rows[:, None] * WIDTH + k[None, :], mask, 0)
        added = ()
        for s in tl.static_range(len(GATES)):
            tile = weight_tile(weight, GATES[s], k, units, H, WIDTH)
            added = added + (sums[s] + dot(h, tile, like, PRECISION),)
        sums = added
    return sums


@triton.jit
def products_back(
    source, rows, there, weight, wide, like: tl.constexpr, GATES: tl.constexpr, H: tl.constexpr,
    WIDTH: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The sum over all gates of `W^T dz`, their dz `(B, len(GATES) * H)` read from memory."""
    total = tl.zeros((rows.shape[0], wide.shape[1]), like)
    for s in tl.static_range(len(GATES)):
        for start in range(0, H, CHUNK):
            k = start + tl.arange(0, CHUNK)
            mask = there[:, None] & (k < H)[None, :]
            dz = tl.load(source + rows[:, None] * (len(GATES) * H) + s * H + k[None, :], mask, 0)
            tile = weight_tile_back(weight, GATES[s], k, wide, H, WIDTH)
            total += dot(dz, tile, like, PRECISION)
    return total
