"""Forward through time, the products with the inputs given.

The recurrent product of a step is, by `PRODUCT`:

    "resident"    computed here; the program keeps the weights throughout
    "memory"      computed here; the weights, and the state as they read it, are read at each step
    "split"       computed here; each program keeps the weights of a slice of units
    "streamed"    computed here; each program reads the weights of a slice of units at each step
    "given"       computed by the caller between two launches, of one step each
    "none"        not there

By all but "given", one launch runs through all steps. Programs with a slice of units publish their
slice of the state in `exchange`, and wait for the others of the same rows before each product: all
of them have to run at once (a cooperative launch). Without `WAITS`, for an interpreter that runs
one program after another, a launch without steps publishes the initial state, and each step is a
launch of its own.
"""

import triton
import triton.language as tl

from seqcells.kernels.triton import slices
from seqcells.kernels.triton.late import late
from seqcells.kernels.triton.maths import dot
from seqcells.kernels.triton.tiles import (
    loaded,
    noise_at,
    place,
    products,
    restarts,
    rows_of,
    units_of,
    weight_tile,
)


@triton.jit
def restarted(part, fresh, again, rows, width, units, mask, like: tl.constexpr):
    """A part of the state as the step finds it."""
    return tl.where(again[:, None], loaded(fresh, rows, width, units, mask, like), part)


@triton.jit
def blended(old, new, share, step, t, rows, width, units, mask, like: tl.constexpr):
    """A part of the state after the step, with the share of the old one that stays."""
    part = new
    if share is not None:
        stays = noise_at(share, step, t, rows, width, units, mask, like)
        part = stays * old + (1.0 - stays) * new
    return tl.where(mask, part, old)


@triton.jit
def multiplied(
    h, tiles, weight, told, rows, there, mask, wide, units, like: tl.constexpr,
    GATES: tl.constexpr, FROM: tl.constexpr, H: tl.constexpr, WIDTH: tl.constexpr,
    PRODUCT: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`W h` for each of some gates: by the tiles from number `FROM` on, or through memory."""
    sums = ()
    if PRODUCT == "resident":
        said = h.to(weight.dtype.element_ty)
        for s in tl.static_range(len(GATES)):
            sums = sums + (dot(said, tiles[FROM + s], like, PRECISION),)
    else:
        tl.store(told + rows[:, None] * WIDTH + wide, h, mask)
        tl.debug_barrier()
        sums = products(told, rows, there, weight, units, like, GATES, H, WIDTH, CHUNK, PRECISION)
    return sums


@triton.jit
def publish(
    h, to, fresh, resets, read, read_step, n, rows, exists, ends, starts, B, units,
    like: tl.constexpr, WIDTH: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """Store the hidden state as the recurrent weights read it at step n: restarted, with noise."""
    taken, t, at = place(n, rows, ends, starts, B, REVERSE)
    here = taken[:, None] & (units < WIDTH)
    if resets is not None:
        h = restarted(h, fresh, restarts(resets, t, rows, taken, B), rows, WIDTH, units, here, like)
    if read is not None:
        h = h * noise_at(read, read_step, t, rows, WIDTH, units, here, like)
    tl.store(to + rows[:, None] * WIDTH + units, h, exists[:, None] & (units < WIDTH))


@triton.jit
def read_inputs(
    from_input, at, units, here, like: tl.constexpr, H: tl.constexpr, GATES: tl.constexpr,
    INPUTS: tl.constexpr,
):  # fmt: skip
    """Each slot's product with the inputs, of those that have one."""
    found = ()
    for s in tl.static_range(len(INPUTS)):
        found = found + (loaded(from_input + INPUTS[s] * H, at, GATES * H, units, here, like),)
    return found


@triton.jit
def summed(
    inputs, here, hidden, biases, like: tl.constexpr, SLOTS: tl.constexpr, HIDDEN_AT: tl.constexpr
):
    """Each slot's sum, of what it has: products with the inputs, with the hidden state, a bias."""
    z = ()
    for s in tl.static_range(SLOTS):
        total = tl.zeros(here.shape, like)
        if s < len(inputs):
            total = inputs[s]
        if s >= HIDDEN_AT:
            if s - HIDDEN_AT < len(biases):
                total += biases[s - HIDDEN_AT]
            if s - HIDDEN_AT < len(hidden):
                total += hidden[s - HIDDEN_AT]
        z = z + (total,)
    return z


@triton.jit(do_not_specialize=["B", "T", "first", "past"])
def forward(
    from_input, weights, state, fresh, noise, noise_steps, given_rows, exchange, counters, partials,
    sums, results, B, T, first, past,
    cell: tl.constexpr, like: tl.constexpr, H: tl.constexpr, WIDTH: tl.constexpr,
    GATES: tl.constexpr, SLOTS: tl.constexpr, INPUTS: tl.constexpr, HIDDENS: tl.constexpr,
    HIDDEN_AT: tl.constexpr, EARLIER: tl.constexpr, LATER: tl.constexpr, STATES: tl.constexpr,
    PARAMETERS: tl.constexpr, MADE: tl.constexpr, BLENDED: tl.constexpr,
    UNPROJECTED: tl.constexpr, BLOCKS: tl.constexpr, KEPT: tl.constexpr, REVERSE: tl.constexpr,
    PRODUCT: tl.constexpr, PRECISION: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr,
    WIDE: tl.constexpr, WHOLE: tl.constexpr, PARTS: tl.constexpr, CHUNK: tl.constexpr,
    MEANS: tl.constexpr, EXCHANGES: tl.constexpr, WAITS: tl.constexpr,
):  # fmt: skip
    """Steps `first` to `past`, from the state `(B, ...)` and back into it.

    Args:
        from_input: `(N, GATES * H)`, the products with the inputs, with their biases.
        weights: those on the hidden state, in single precision their last digits, their bias, the
            projection, the cell's own parameters.
        noise: `read`, `drop` and the two parts' `zone`; how far each moves on a step, or 0.
        given_rows: the batch's order, its lengths, where steps start that are packed, the resets.
        exchange: room for what threads tell each other, or the caller, of the state.
        counters: how often programs of the same rows have published their slices, 32 numbers apart.
        partials: room for the sums of whole rows that those programs exchange.
        sums: `(B, GATES * H)`, the recurrent product where it is given.
        results: outputs, the second part of the states, what is kept.
    """
    weight, low, bias, projection, parameters = weights
    read, drop, zone_0, zone_1 = noise
    read_step, drop_step, step_0, step_1 = noise_steps
    order, lengths, starts, resets = given_rows
    outputs, cells, kept = results
    SPAN: tl.constexpr = max(H, WIDTH)
    SLICED: tl.constexpr = PRODUCT == "split" or PRODUCT == "streamed"
    counter = counters
    if SLICED:
        counter = counters + tl.program_id(0) * 32

    rows, exists, ends = rows_of(given_rows, B, T, ROWS)
    there = ends > 0
    units, wide = units_of(UNITS), units_of(WIDE)
    in_units, in_wide = units < H, wide < WIDTH
    h = loaded(state[0], rows, WIDTH, wide, exists[:, None] & in_wide, like)
    c = h
    if STATES > 1:
        c = loaded(state[1], rows, H, units, exists[:, None] & in_units, like)
    p = ()
    for n in tl.static_range(PARAMETERS):
        p = p + (tl.load(parameters + n * H + units, in_units, 0).to(like),)
    biases = ()
    tiles = ()
    k = tl.arange(0, WIDE)
    for s in tl.static_range(len(HIDDENS)):
        if PRODUCT == "resident":
            tiles = tiles + (weight_tile(weight, HIDDENS[s], k, units, H, WIDTH),)
        if bias is not None and PRODUCT != "given":
            biases = biases + (tl.load(bias + HIDDENS[s] * H + units, in_units, 0).to(like),)
    lows = ()
    if PRODUCT == "split":
        tiles = slices.kept_weights(weight, units, False, GATES, H, WHOLE, PARTS, CHUNK)
        if low is not None:
            lows = slices.kept_weights(low, units, False, GATES, H, WHOLE, PARTS, CHUNK)
    projecting = ()
    if projection is not None and PRODUCT == "resident":
        projecting = (weight_tile(projection, 0, tl.arange(0, UNITS), wide, WIDTH, H),)

    if SLICED and (WAITS or first == past):
        publish(
            h, exchange + (first % 2) * B * SPAN, fresh[0], resets, read, read_step, first, rows,
            exists, ends, starts, B, wide, like, WIDTH, REVERSE,
        )  # fmt: skip
        if WAITS:
            slices.arrive(counter)
    for n in range(first, tl.minimum(past, tl.max(ends))):
        group = None
        taken, t, at = place(n, rows, ends, starts, B, REVERSE)
        here, here_wide = taken[:, None] & in_units, taken[:, None] & in_wide
        if resets is not None:
            again = restarts(resets, t, rows, taken, B)
            h = restarted(h, fresh[0], again, rows, WIDTH, wide, here_wide, like)
            if STATES > 1:
                c = restarted(c, fresh[1], again, rows, H, units, here, like)
        inputs = read_inputs(from_input, at, units, here, like, H, GATES, INPUTS)
        seen = h
        if read is not None and not SLICED:
            seen = h * noise_at(read, read_step, t, rows, WIDTH, wide, here_wide, like)

        hidden = ()
        if PRODUCT == "given":
            for s in tl.static_range(len(EARLIER)):
                total = loaded(sums + EARLIER[s] * H, rows, GATES * H, units, here, like)
                hidden = hidden + (total,)
        elif SLICED:
            arrivals = (n - first) * (1 + EXCHANGES) + 1
            if EXCHANGES > 0:
                sums_of_rows = partials + tl.program_id(0) * MEANS * tl.num_programs(1) * ROWS
                group = sums_of_rows, counter, arrivals
            if WAITS:
                slices.wait(counter, arrivals * tl.num_programs(1))
            told = exchange + (n % 2) * B * SPAN
            of_gates = slices.products(
                told,
                rows,
                there,
                weight,
                tiles,
                lows,
                units,
                like,
                GATES,
                H,
                WHOLE,
                CHUNK,
                PRECISION,
            )
            for s in tl.static_range(len(EARLIER)):
                hidden = hidden + (of_gates[EARLIER[s]],)
        elif len(EARLIER) > 0:
            told = exchange + (n % 2) * B * SPAN
            hidden = multiplied(
                seen, tiles, weight, told, rows, there, here_wide, wide, units, like,
                EARLIER, 0, H, WIDTH, PRODUCT, CHUNK, PRECISION,
            )  # fmt: skip
        z = summed(inputs, here, hidden, biases, like, SLOTS, HIDDEN_AT)
        if len(LATER) > 0:
            told = exchange + (2 + n % 2) * B * SPAN
            (last,) = multiplied(
                late(z, seen), tiles, weight, told, rows, there, here_wide, wide, units, like,
                LATER, len(EARLIER), H, WIDTH, PRODUCT, CHUNK, PRECISION,
            )  # fmt: skip
            z = z[: SLOTS - 1] + (z[SLOTS - 1] + last,)

        factor = 1.0
        if drop is not None:
            factor = noise_at(drop, drop_step, t, rows, H, units, here, like)
        new, keep, of_row = cell(z, (h, c), p, factor, units, H, group)
        made = new[0]
        if projection is not None:
            told = exchange + (4 + n % 2) * B * SPAN
            (made,) = multiplied(
                made, projecting, projection, told, rows, there, here, units, wide, like,
                (0,), 0, WIDTH, H, PRODUCT, CHUNK, PRECISION,
            )  # fmt: skip
        h = blended(h, made, zone_0, step_0, t, rows, WIDTH, wide, here_wide, like)
        if SLICED:  # before all that no other program waits for
            publish(
                h, exchange + ((n + 1) % 2) * B * SPAN, fresh[0], resets, read, read_step, n + 1,
                rows, exists, ends, starts, B, wide, like, WIDTH, REVERSE,
            )  # fmt: skip
            if WAITS:
                slices.arrive(counter)
        tl.store(outputs + at[:, None] * WIDTH + wide, h, here_wide)
        if STATES > 1:
            c = blended(c, new[1], zone_1, step_1, t, rows, H, units, here, like)
            if cells is not None:
                tl.store(cells + at[:, None] * H + units, c, here)
        if kept is not None:
            own = kept + at[:, None] * KEPT
            for number in tl.static_range(len(keep)):
                tl.store(own + number * H + units, keep[number], here)
            if MADE >= 0:
                tl.store(own + MADE * H + units, made, here)
            if BLENDED >= 0:
                tl.store(own + BLENDED * H + units, c, here)
            if UNPROJECTED >= 0:
                tl.store(own + UNPROJECTED * H + units, new[0], here)
            for number in tl.static_range(len(of_row)):
                tl.store(own + BLOCKS * H + number, of_row[number], taken[:, None])

    tl.store(state[0] + rows[:, None] * WIDTH + wide, h, exists[:, None] & in_wide)
    if STATES > 1:
        tl.store(state[1] + rows[:, None] * H + units, c, exists[:, None] & in_units)
    if PRODUCT == "given":  # what the caller's next product reads
        publish(
            h, exchange, fresh[0], resets, read, read_step, past, rows, exists, ends, starts, B,
            wide, like, WIDTH, REVERSE,
        )  # fmt: skip
