"""Programs with a slice of the units: how they wait for each other, and multiply.

Each computes `U` units of `R` rows, and reads what the other programs of the same rows published
of the state, or of its gradient: arrays `(B, width)` in memory.

Forward, the weights of all gates stand side by side in one matrix `(K, G U)`, so that one product
computes all gates. Backward, the sum over gates and units `(G K)` is cut into `PARTS` of equal
length, which the warps of a program compute apart. `G` is the number of gates, `K` that of units,
each rounded up to a power of two.

In single precision a factor is the sum of two in TF32 (`high`, `low`); three of the four products
are computed, each with a sum of its own, so that none of them waits for another.
"""

import triton
import triton.language as tl

from seqcells.kernels.triton.maths import dot, mean


@triton.jit
def arrive(counter):
    """Announce to the programs of the same rows that this one has published its slice."""
    tl.debug_barrier()
    tl.atomic_add(counter, 1, sem="release", scope="gpu")


@triton.jit
def wait(counter, arrivals):
    """Wait until the programs of the same rows have announced so many slices in all."""
    while tl.atomic_add(counter, 0, sem="acquire", scope="gpu") < arrivals:
        pass
    tl.debug_barrier()


@triton.jit
def means(values, numbers: tl.constexpr, units, H: tl.constexpr, group, exchange: tl.constexpr):
    """Means over whole rows, each `(R, 1)`.

    Args:
        numbers: which means of the step these are.
        group: for programs with slices of the units, room for each mean's partial sums
            `(slices, R)`, the counter of the row's programs, and their arrivals before the step's
            exchanges; None where a program has whole rows.
        exchange: how many exchanges of the step came before.
    """
    found = ()
    if group is None:
        for i in tl.static_range(len(values)):
            found = found + (mean(values[i], units, H),)
    else:
        partial, counter, arrivals = group
        ROWS: tl.constexpr = values[0].shape[0]
        SLICES: tl.constexpr = (H + units.shape[1] - 1) // units.shape[1]
        rows = tl.arange(0, ROWS)
        for i in tl.static_range(len(values)):
            own = partial + (numbers[i] * SLICES + tl.program_id(1)) * ROWS + rows
            tl.store(own, tl.sum(tl.where(units < H, values[i], 0.0), 1))
        arrive(counter)
        wait(counter, (arrivals + exchange + 1) * SLICES)
        slices = tl.arange(0, triton.next_power_of_2(SLICES))[None, :]
        for i in tl.static_range(len(values)):
            place = partial + (numbers[i] * SLICES + slices) * ROWS + rows[:, None]
            sums = tl.load(place, (slices < SLICES) & (rows >= 0)[:, None], 0, cache_modifier=".cg")
            found = found + (tl.sum(sums, 1, keep_dims=True) / H,)
    return found


@triton.jit
def high(x):
    """The leading digits of single-precision numbers, as many as TF32 has."""
    return (x.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)


@triton.jit
def gate_columns(units, GATES: tl.constexpr, H: tl.constexpr):
    """Rows of the recurrent weights by column of the product, gate by gate, and which exist."""
    SPAN: tl.constexpr = units.shape[1]
    column = tl.arange(0, triton.next_power_of_2(GATES) * SPAN)
    gate, unit = column // SPAN, tl.program_id(1) * SPAN + column % SPAN
    return gate * H + unit, (gate < GATES) & (unit < H)


@triton.jit
def forward_tile(weight, start, units, GATES: tl.constexpr, H: tl.constexpr, CHUNK: tl.constexpr):
    """The weights `(CHUNK, G U)` on the units from `start` on."""
    row, exists = gate_columns(units, GATES, H)
    k = start + tl.arange(0, CHUNK)
    place = weight + row.to(tl.int64)[None, :] * H + k[:, None]
    return tl.load(place, exists[None, :] & (k < H)[:, None], 0)


@triton.jit
def published(source, start, rows, mask, H: tl.constexpr, CHUNK: tl.constexpr):
    """The state `(R, CHUNK)` from unit `start` on, as all programs published it."""
    k = start + tl.arange(0, CHUNK)
    there = mask[:, None] & (k < H)[None, :]
    return tl.load(source + rows[:, None] * H + k[None, :], there, 0, cache_modifier=".cg")


@triton.jit
def summed_rows(
    start, GATES: tl.constexpr, H: tl.constexpr, WHOLE: tl.constexpr, PARTS: tl.constexpr,
    CHUNK: tl.constexpr,
):  # fmt: skip
    """Of each part `(PARTS, CHUNK)` the rows of the weights from `start` on, and which exist."""
    LENGTH: tl.constexpr = triton.next_power_of_2(GATES) * WHOLE // PARTS
    number = tl.arange(0, PARTS)[:, None] * LENGTH + start + tl.arange(0, CHUNK)[None, :]
    gate, unit = number // WHOLE, number % WHOLE
    return gate * H + unit, (gate < GATES) & (unit < H)


@triton.jit
def backward_tile(
    weight, start, units, GATES: tl.constexpr, H: tl.constexpr, WHOLE: tl.constexpr,
    PARTS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """The weights `(PARTS, CHUNK, U)` of each part from `start` on."""
    row, exists = summed_rows(start, GATES, H, WHOLE, PARTS, CHUNK)
    place = weight + row.to(tl.int64)[:, :, None] * H + units[None, :, :]
    return tl.load(place, exists[:, :, None] & (units < H)[None, :, :], 0)


@triton.jit
def published_back(
    source, start, rows, mask, GATES: tl.constexpr, H: tl.constexpr, WHOLE: tl.constexpr,
    PARTS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """`dz (PARTS, R, CHUNK)` of each part from `start` on, as all programs published it."""
    row, exists = summed_rows(start, GATES, H, WHOLE, PARTS, CHUNK)
    place = source + rows[None, :, None] * (GATES * H) + row[:, None, :]
    return tl.load(place, mask[None, :, None] & exists[:, None, :], 0, cache_modifier=".cg")


@triton.jit
def halved(x):
    """The first and the second half of the columns."""
    halves = tl.reshape(x, (x.shape[0], 2, x.shape[1] // 2))
    return tl.split(tl.permute(halves, (0, 2, 1)))


@triton.jit
def gate_by_gate(x, GATES: tl.constexpr):
    """The products `(R, G U)` cut into one `(R, U)` for each gate."""
    parts = (x,)
    for _ in tl.static_range(4):
        if len(parts) < GATES:
            halves = ()
            for number in tl.static_range(len(parts)):
                halves = halves + halved(parts[number])
            parts = halves
    return parts


@triton.jit
def kept_weights(
    weight, units, back: tl.constexpr, GATES: tl.constexpr, H: tl.constexpr, WHOLE: tl.constexpr,
    PARTS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """All tiles of a slice, forward or backward."""
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
def multiplied(chunks, tiles, lows, total, like: tl.constexpr, PRECISION: tl.constexpr):
    """The sum of the products of all chunks, `total` being zeros of their shape."""
    first, second = total, total
    for c in tl.static_range(len(tiles)):
        if len(lows) > 0:
            leading = high(chunks[c])
            first += dot(chunks[c] - leading, tiles[c], like, PRECISION)
            second += dot(leading, lows[c], like, PRECISION)
            total += dot(leading, tiles[c], like, PRECISION)
        else:
            total += dot(chunks[c], tiles[c], like, PRECISION)
    if len(lows) > 0:
        total += first + second
    return total


@triton.jit
def products(
    source, rows, mask, weight, tiles, lows, units, like: tl.constexpr, GATES: tl.constexpr,
    H: tl.constexpr, WHOLE: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`W h` of each gate, by the tiles that are kept, or without any, by the weights in memory."""
    COLUMNS: tl.constexpr = triton.next_power_of_2(GATES) * units.shape[1]
    total = tl.zeros((rows.shape[0], COLUMNS), like)
    if len(tiles) > 0:
        chunks = ()
        for start in tl.static_range(0, WHOLE, CHUNK):
            chunks = chunks + (published(source, start, rows, mask, H, CHUNK),)
        total = multiplied(chunks, tiles, lows, total, like, PRECISION)
    else:
        for start in range(0, H, CHUNK):
            h = published(source, start, rows, mask, H, CHUNK)
            total += dot(h, forward_tile(weight, start, units, GATES, H, CHUNK), like, PRECISION)
    return gate_by_gate(total, GATES)


@triton.jit
def products_back(
    source, rows, mask, weight, tiles, lows, units, like: tl.constexpr, GATES: tl.constexpr,
    H: tl.constexpr, WHOLE: tl.constexpr, PARTS: tl.constexpr, CHUNK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """The sum over all gates of `W^T dz`, by the tiles that are kept or the weights in memory."""
    LENGTH: tl.constexpr = triton.next_power_of_2(GATES) * WHOLE // PARTS
    tl.static_assert(LENGTH % CHUNK == 0)
    total = tl.zeros((PARTS, rows.shape[0], units.shape[1]), like)
    if len(tiles) > 0:
        chunks = ()
        for start in tl.static_range(0, LENGTH, CHUNK):
            dz = published_back(source, start, rows, mask, GATES, H, WHOLE, PARTS, CHUNK)
            chunks = chunks + (dz,)
        total = multiplied(chunks, tiles, lows, total, like, PRECISION)
    else:
        for start in range(0, LENGTH, CHUNK):
            dz = published_back(source, start, rows, mask, GATES, H, WHOLE, PARTS, CHUNK)
            tile = backward_tile(weight, start, units, GATES, H, WHOLE, PARTS, CHUNK)
            total += dot(dz, tile, like, PRECISION)
    return tl.sum(total, 0)
