"""Products with the recurrent weights or the projection, by programs that compute all units.

cooperative.py has those of programs that each compute a slice of the units.
"""

import triton
import triton.language as tl

from seqcells.kernels.triton.numerics import dot


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
    FROM: tl.constexpr, COUNT: tl.constexpr, H: tl.constexpr, WIDTH: tl.constexpr,
    CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Return `W h` for each gate, reading h `(B, WIDTH)` from memory in chunks of units."""
    sums = ()
    for _ in tl.static_range(COUNT):
        sums = sums + (tl.zeros((rows.shape[0], units.shape[1]), dtype),)
    for start in range(0, WIDTH, CHUNK):
        k = start + tl.arange(0, CHUNK)
        mask = nonempty[:, None] & (k < WIDTH)[None, :]
        h = tl.load(source + rows[:, None] * WIDTH + k[None, :], mask, 0)
        added = ()
        for s in tl.static_range(COUNT):
            tile = weight_tile(weight, GATES[FROM + s], k, units, H, WIDTH)
            added = added + (sums[s] + dot(h, tile, dtype, PRECISION),)
        sums = added
    return sums


@triton.jit
def transposed_products(
    source, rows, nonempty, weight, wide, dtype: tl.constexpr, GATES: tl.constexpr,
    FROM: tl.constexpr, COUNT: tl.constexpr, H: tl.constexpr, WIDTH: tl.constexpr,
    CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Return the sum of `W^T dz` over the gates, reading dz `(B, COUNT * H)` from memory."""
    total = tl.zeros((rows.shape[0], wide.shape[1]), dtype)
    for s in tl.static_range(COUNT):
        for start in range(0, H, CHUNK):
            k = start + tl.arange(0, CHUNK)
            mask = nonempty[:, None] & (k < H)[None, :]
            dz = tl.load(source + rows[:, None] * (COUNT * H) + s * H + k[None, :], mask, 0)
            tile = transposed_weight_tile(weight, GATES[FROM + s], k, wide, H, WIDTH)
            total += dot(dz, tile, dtype, PRECISION)
    return total


@triton.jit
def multiply(
    h, tiles, weight, buffer, rows, nonempty, mask, wide, units, dtype: tl.constexpr,
    GATES: tl.constexpr, FROM: tl.constexpr, COUNT: tl.constexpr, H: tl.constexpr,
    WIDTH: tl.constexpr, PRODUCT: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Return `W h` for each gate in `GATES[FROM:FROM + COUNT]`: with `tiles`, or through memory."""
    sums = ()
    if PRODUCT == "resident":
        operand = h.to(weight.dtype.element_ty)
        for s in tl.static_range(COUNT):
            sums = sums + (dot(operand, tiles[FROM + s], dtype, PRECISION),)
    else:
        tl.store(buffer + rows[:, None] * WIDTH + wide, h, mask)
        tl.debug_barrier()
        sums = products(
            buffer, rows, nonempty, weight, units, dtype, GATES, FROM, COUNT, H, WIDTH, CHUNK,
            PRECISION,
        )  # fmt: skip
    return sums


@triton.jit
def multiply_transposed(
    parts, tiles, weight, buffer, rows, nonempty, mask, units, wide, dtype: tl.constexpr,
    GATES: tl.constexpr, FROM: tl.constexpr, COUNT: tl.constexpr, H: tl.constexpr,
    WIDTH: tl.constexpr, PRODUCT: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Return the sum of `W^T dz` over `GATES[FROM:FROM + COUNT]`, in the same two ways."""
    total = tl.zeros((rows.shape[0], wide.shape[1]), dtype)
    if PRODUCT == "resident":
        for s in tl.static_range(COUNT):
            operand = tl.where(mask, parts[s], 0.0).to(weight.dtype.element_ty)
            total += dot(operand, tiles[FROM + s], dtype, PRECISION)
    else:
        for s in tl.static_range(COUNT):
            tl.store(buffer + rows[:, None] * (COUNT * H) + s * H + units, parts[s], mask)
        tl.debug_barrier()
        total = transposed_products(
            buffer, rows, nonempty, weight, wide, dtype, GATES, FROM, COUNT, H, WIDTH, CHUNK,
            PRECISION,
        )  # fmt: skip
    return total
