"""Synchronization and products of programs that each compute a slice of the units.

Each program computes `U` units of `R` rows. It reads the state, or its gradient, that the other
programs of the same rows published: arrays `(B, width)` in memory.

In the forward pass, one product with a matrix `(K, G U)` computes all gates. In the backward pass,
the sum over gates and units `(G K)` is divided into `PARTS` of equal length, which the warps of a
program compute independently. `G` and `K` are the numbers of gates and of units, each rounded up to
a power of two.

In single precision, each factor is the sum of a high and a low part in TF32 (`truncate_to_tf32`).
Three of the four products are computed. Each has its own accumulator, so that they do not depend on
each other.
"""

import triton
import triton.language as tl

from seqcells.kernels.triton.numerics import dot, mean


@triton.jit
def arrive(counter):
    """Signal the programs of the same rows that this one has published its slice."""
    tl.debug_barrier()
    tl.atomic_add(counter, 1, sem="release", scope="gpu")


@triton.jit
def wait(counter, arrivals):
    """Wait until the programs of the same rows have signalled `arrivals` slices in total."""
    while tl.atomic_add(counter, 0, sem="acquire", scope="gpu") < arrivals:
        pass
    tl.debug_barrier()


@triton.jit
def means(values, numbers: tl.constexpr, units, H: tl.constexpr, group, exchange: tl.constexpr):
    """Return means over whole rows, each `(R, 1)`.

    Args:
        numbers: indices of these means among those of the step.
        group: for programs with slices of the units, a buffer for each mean's partial sums
            `(slices, R)`, the counter of the programs of the same rows, and their arrivals before
            the step's exchanges. None if a program has whole rows.
        exchange: number of earlier exchanges in this step.
    """
    results = ()
    if group is None:
        for i in tl.static_range(len(values)):
            results = results + (mean(values[i], units, H),)
    else:
        partial, counter, arrivals = group
        ROWS: tl.constexpr = values[0].shape[0]
        SLICES: tl.constexpr = (H + units.shape[1] - 1) // units.shape[1]
        rows = tl.arange(0, ROWS)
        for i in tl.static_range(len(values)):
            pointer = partial + (numbers[i] * SLICES + tl.program_id(1)) * ROWS + rows
            tl.store(pointer, tl.sum(tl.where(units < H, values[i], 0.0), 1))
        arrive(counter)
        wait(counter, (arrivals + exchange + 1) * SLICES)
        slices = tl.arange(0, triton.next_power_of_2(SLICES))[None, :]
        for i in tl.static_range(len(values)):
            pointer = partial + (numbers[i] * SLICES + slices) * ROWS + rows[:, None]
            mask = (slices < SLICES) & (rows >= 0)[:, None]
            sums = tl.load(pointer, mask, 0, cache_modifier=".cg")
            results = results + (tl.sum(sums, 1, keep_dims=True) / H,)
    return results


@triton.jit
def truncate_to_tf32(x):
    """Truncate single-precision numbers to the digits of TF32."""
    return (x.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)


@triton.jit
def gate_columns(units, GATES: tl.constexpr, H: tl.constexpr):
    """Return the row of the recurrent weights for each column of the product, and if it exists."""
    SPAN: tl.constexpr = units.shape[1]
    column = tl.arange(0, triton.next_power_of_2(GATES) * SPAN)
    gate, unit = column // SPAN, tl.program_id(1) * SPAN + column % SPAN
    return gate * H + unit, (gate < GATES) & (unit < H)


@triton.jit
def forward_tile(weight, start, units, GATES: tl.constexpr, H: tl.constexpr, CHUNK: tl.constexpr):
    """Load the weights `(CHUNK, G U)` on the units from `start` on."""
    row, exists = gate_columns(units, GATES, H)
    k = start + tl.arange(0, CHUNK)
    pointer = weight + row.to(tl.int64)[None, :] * H + k[:, None]
    return tl.load(pointer, exists[None, :] & (k < H)[:, None], 0)


@triton.jit
def load_published_state(source, start, rows, mask, H: tl.constexpr, CHUNK: tl.constexpr):
    """Load the published state `(R, CHUNK)` from unit `start` on."""
    k = start + tl.arange(0, CHUNK)
    exists = mask[:, None] & (k < H)[None, :]
    return tl.load(source + rows[:, None] * H + k[None, :], exists, 0, cache_modifier=".cg")


@triton.jit
def reduction_rows(
    start, GATES: tl.constexpr, H: tl.constexpr, WHOLE: tl.constexpr, PARTS: tl.constexpr,
    CHUNK: tl.constexpr,
):  # fmt: skip
    """Return each part's weight rows from `start` on, `(PARTS, CHUNK)`, and if they exist."""
    LENGTH: tl.constexpr = triton.next_power_of_2(GATES) * WHOLE // PARTS
    number = tl.arange(0, PARTS)[:, None] * LENGTH + start + tl.arange(0, CHUNK)[None, :]
    gate, unit = number // WHOLE, number % WHOLE
    return gate * H + unit, (gate < GATES) & (unit < H)


@triton.jit
def backward_tile(
    weight, start, units, GATES: tl.constexpr, H: tl.constexpr, WHOLE: tl.constexpr,
    PARTS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Load each part's weights from `start` on, `(PARTS, CHUNK, U)`."""
    row, exists = reduction_rows(start, GATES, H, WHOLE, PARTS, CHUNK)
    pointer = weight + row.to(tl.int64)[:, :, None] * H + units[None, :, :]
    return tl.load(pointer, exists[:, :, None] & (units < H)[None, :, :], 0)


@triton.jit
def load_published_dz(
    source, start, rows, mask, GATES: tl.constexpr, H: tl.constexpr, WHOLE: tl.constexpr,
    PARTS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Load each part's published `dz` from `start` on, `(PARTS, R, CHUNK)`."""
    row, exists = reduction_rows(start, GATES, H, WHOLE, PARTS, CHUNK)
    pointer = source + rows[None, :, None] * (GATES * H) + row[:, None, :]
    return tl.load(pointer, mask[None, :, None] & exists[:, None, :], 0, cache_modifier=".cg")


@triton.jit
def split_columns(x):
    """Return the first and the second half of the columns."""
    halves = tl.reshape(x, (x.shape[0], 2, x.shape[1] // 2))
    return tl.split(tl.permute(halves, (0, 2, 1)))


@triton.jit
def split_gates(x, GATES: tl.constexpr):
    """Split the products `(R, G U)` into one `(R, U)` per gate."""
    parts = (x,)
    for _ in tl.static_range(4):
        if len(parts) < GATES:
            halves = ()
            for number in tl.static_range(len(parts)):
                halves = halves + split_columns(parts[number])
            parts = halves
    return parts


@triton.jit
def load_weight_tiles(
    weight, units, back: tl.constexpr, GATES: tl.constexpr, H: tl.constexpr, WHOLE: tl.constexpr,
    PARTS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Load all weight tiles of a slice, for the forward or the backward pass."""
    tiles = ()
    if back:
        LENGTH: tl.constexpr = triton.next_power_of_2(GATES) * WHOLE // PARTS
        for start in tl.static_range(0, LENGTH, CHUNK):
            tile = backward_tile(weight, start, units, GATES, H, WHOLE, PARTS, CHUNK)
            tiles = tiles + (tile,)
    else:
        for start in tl.static_range(0, WHOLE, CHUNK):
            tiles = tiles + (forward_tile(weight, start, units, GATES, H, CHUNK),)
    return tiles


@triton.jit
def multiply_chunks(chunks, tiles, low_tiles, total, dtype: tl.constexpr, PRECISION: tl.constexpr):
    """Return the sum of the products of all chunks. `total` is zeros of their shape."""
    first, second = total, total
    for c in tl.static_range(len(tiles)):
        if len(low_tiles) > 0:
            leading = truncate_to_tf32(chunks[c])
            first += dot(chunks[c] - leading, tiles[c], dtype, PRECISION)
            second += dot(leading, low_tiles[c], dtype, PRECISION)
            total += dot(leading, tiles[c], dtype, PRECISION)
        else:
            total += dot(chunks[c], tiles[c], dtype, PRECISION)
    if len(low_tiles) > 0:
        total += first + second
    return total


@triton.jit
def products(
    source, rows, mask, weight, tiles, low_tiles, units, dtype: tl.constexpr, GATES: tl.constexpr,
    H: tl.constexpr, WHOLE: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Return `W h` of each gate, with `tiles`, or if it is empty with the weights in memory."""
    COLUMNS: tl.constexpr = triton.next_power_of_2(GATES) * units.shape[1]
    total = tl.zeros((rows.shape[0], COLUMNS), dtype)
    if len(tiles) > 0:
        chunks = ()
        for start in tl.static_range(0, WHOLE, CHUNK):
            chunks = chunks + (load_published_state(source, start, rows, mask, H, CHUNK),)
        total = multiply_chunks(chunks, tiles, low_tiles, total, dtype, PRECISION)
    else:
        for start in range(0, H, CHUNK):
            h = load_published_state(source, start, rows, mask, H, CHUNK)
            total += dot(h, forward_tile(weight, start, units, GATES, H, CHUNK), dtype, PRECISION)
    return split_gates(total, GATES)


@triton.jit
def transposed_products(
    source, rows, mask, weight, tiles, low_tiles, units, dtype: tl.constexpr, GATES: tl.constexpr,
    H: tl.constexpr, WHOLE: tl.constexpr, PARTS: tl.constexpr, CHUNK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Return the sum of `W^T dz` over all gates, with `tiles` or the weights in memory."""
    LENGTH: tl.constexpr = triton.next_power_of_2(GATES) * WHOLE // PARTS
    tl.static_assert(LENGTH % CHUNK == 0)
    total = tl.zeros((PARTS, rows.shape[0], units.shape[1]), dtype)
    if len(tiles) > 0:
        chunks = ()
        for start in tl.static_range(0, LENGTH, CHUNK):
            dz = load_published_dz(source, start, rows, mask, GATES, H, WHOLE, PARTS, CHUNK)
            chunks = chunks + (dz,)
        total = multiply_chunks(chunks, tiles, low_tiles, total, dtype, PRECISION)
    else:
        for start in range(0, LENGTH, CHUNK):
            dz = load_published_dz(source, start, rows, mask, GATES, H, WHOLE, PARTS, CHUNK)
            tile = backward_tile(weight, start, units, GATES, H, WHOLE, PARTS, CHUNK)
            total += dot(dz, tile, dtype, PRECISION)
    return tl.sum(total, 0)
