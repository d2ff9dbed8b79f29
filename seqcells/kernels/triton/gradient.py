"""Backward through time: the gradients by the products' sums `dz`, by the states, and by what a
cell has of parameters beside the products. Those by weights and inputs are products of `dz` over
the whole sequence, which the caller makes.

With L the loss, dh = dL/dh and so on, from the last step to the first:

    dh += dL/dy_t                       what the outputs' readers ask for
    dz, dh', dc' = the cell's gradient  elementwise
    dh' += W_hh^T dz                    by `PRODUCT`, as in recurrence.py
"""

import triton
import triton.language as tl

from seqcells.kernels.triton import slices
from seqcells.kernels.triton.before import divided, finished, found, joined, restart
from seqcells.kernels.triton.late import late_again
from seqcells.kernels.triton.maths import dot
from seqcells.kernels.triton.tiles import (
    loaded,
    noise_at,
    place,
    products_back,
    restarts,
    rows_of,
    units_of,
    weight_tile_back,
)


@triton.jit
def multiplied_back(
    parts, tiles, weight, told, rows, there, mask, units, wide, like: tl.constexpr,
    GATES: tl.constexpr, FROM: tl.constexpr, H: tl.constexpr, WIDTH: tl.constexpr,
    PRODUCT: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The sum of `W^T dz` over gates: by the tiles from number `FROM` on, or through memory."""
    total = tl.zeros((rows.shape[0], wide.shape[1]), like)
    if PRODUCT == "resident":
        for s in tl.static_range(len(GATES)):
            said = tl.where(mask, parts[s], 0.0).to(weight.dtype.element_ty)
            total += dot(said, tiles[FROM + s], like, PRECISION)
    else:
        for s in tl.static_range(len(GATES)):
            tl.store(told + rows[:, None] * (len(GATES) * H) + s * H + units, parts[s], mask)
        tl.debug_barrier()
        total = products_back(
            told, rows, there, weight, wide, like, GATES, H, WIDTH, CHUNK, PRECISION
        )
    return total


@triton.jit(do_not_specialize=["B", "T", "first", "past"])
def backward(
    weights, state, fresh, noise, noise_steps, given_rows, done, upstream, grads, exchange,
    counters, partials, through, results,
    B, T, first, past,
    cell: tl.constexpr, late_backward: tl.constexpr, like: tl.constexpr, H: tl.constexpr,
    WIDTH: tl.constexpr, GATES: tl.constexpr, SLOTS: tl.constexpr, HIDDENS: tl.constexpr,
    HIDDEN_AT: tl.constexpr, COLUMNS: tl.constexpr, DZ: tl.constexpr, EARLIER: tl.constexpr,
    LATER: tl.constexpr, STATES: tl.constexpr, PARAMETERS: tl.constexpr, OF_ROW: tl.constexpr,
    KEEPS: tl.constexpr, CELL: tl.constexpr, MADE: tl.constexpr, BLOCKS: tl.constexpr,
    KEPT: tl.constexpr, REVERSE: tl.constexpr, PRODUCT: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, WIDE: tl.constexpr, WHOLE: tl.constexpr,
    PARTS: tl.constexpr, CHUNK: tl.constexpr, MEANS: tl.constexpr, EXCHANGES: tl.constexpr,
    WAITS: tl.constexpr,
):  # fmt: skip
    """Steps `past` back to `first`, from the gradients by the state and back into them.

    Args:
        done: what the forward pass left, outputs and what is kept.
        upstream: the gradients by the outputs and by the second parts of the states.
        grads: those by the two parts of the state, then by those of the fresh one.
        exchange: room for `dz`, which threads tell each other or the caller.
        counters: how often programs of the same rows have published their slices, 32 numbers apart.
        partials: room for the sums of whole rows that those programs exchange.
        through: `(B, WIDTH)`, `W_hh^T dz` of the step `past` where it is given.
        results: `dz (N, DZ)`, of each slot in its column; what the weights read of the state, and
            that of the last product; the gradient by what was projected; that by the parameters,
            summed over each program's rows.
    """
    weight, low, bias, projection, parameters = weights
    read, drop, zone_0, zone_1 = noise
    read_step, drop_step, step_0, step_1 = noise_steps
    order, lengths, starts, resets = given_rows
    outputs, kept = done
    grad_outputs, grad_cells = upstream
    dz_out, seen_out, gated_out, projected_out, summed_out = results

    # Whether a step's product joins the gradient by the state when the step before it begins.
    SLICED: tl.constexpr = PRODUCT == "split" or PRODUCT == "streamed"
    APART: tl.constexpr = SLICED or PRODUCT == "given"
    counter = counters
    if SLICED:
        counter = counters + tl.program_id(0) * 32

    rows, exists, ends = rows_of(given_rows, B, T, ROWS)
    there = ends > 0
    units, wide = units_of(UNITS), units_of(WIDE)
    in_units, in_wide = units < H, wide < WIDTH
    own, own_wide = exists[:, None] & in_units, exists[:, None] & in_wide
    dh = loaded(grads[0], rows, WIDTH, wide, own_wide, like)
    dc = dh
    fresh_h = dh
    fresh_c = dh
    if STATES > 1:
        dc = loaded(grads[1], rows, H, units, own, like)
    if resets is not None:
        fresh_h = loaded(grads[2], rows, WIDTH, wide, own_wide, like)
        if STATES > 1:
            fresh_c = loaded(grads[3], rows, H, units, own, like)
    p = ()
    summed = ()
    partial = summed_out
    if PARAMETERS > 0:
        partial = summed_out + tl.program_id(0) * PARAMETERS * H + units
    for number in tl.static_range(PARAMETERS):
        p = p + (tl.load(parameters + number * H + units, in_units, 0).to(like),)
        summed = summed + (tl.load(partial + number * H, in_units, 0),)
    tiles = ()
    k = tl.arange(0, UNITS)
    for s in tl.static_range(len(HIDDENS)):
        if PRODUCT == "resident":
            tiles = tiles + (weight_tile_back(weight, HIDDENS[s], k, wide, H, WIDTH),)
    lows = ()
    if PRODUCT == "split":
        tiles = slices.kept_weights(weight, wide, True, GATES, H, WHOLE, PARTS, CHUNK)
        if low is not None:
            lows = slices.kept_weights(low, wide, True, GATES, H, WHOLE, PARTS, CHUNK)
    projecting = ()
    if projection is not None and PRODUCT == "resident":
        projecting = (weight_tile_back(projection, 0, tl.arange(0, WIDE), units, WIDTH, H),)

    if PRODUCT == "given":
        taken, t, at = place(past, rows, ends, starts, B, REVERSE)
        added = loaded(through, rows, WIDTH, wide, taken[:, None] & in_wide, like)
        dh, dc, fresh_h, fresh_c = joined(
            added, dh, dc, fresh_h, fresh_c, resets, read, read_step, t, rows, taken, B, wide, like,
            STATES, WIDTH,
        )  # fmt: skip

    last = tl.minimum(past, tl.max(ends))
    for back in range(last - first):
        n, group = last - 1 - back, None
        taken, t, at = place(n, rows, ends, starts, B, REVERSE)
        followed, _, at_before = place(n - 1, rows, ends, starts, B, REVERSE)
        here, here_wide = taken[:, None] & in_units, taken[:, None] & in_wide
        again = taken & False
        if resets is not None:
            again = restarts(resets, t, rows, taken, B)
        follows, begins = taken & followed & ~again, taken & (n == 0) & ~again
        before_h = found(
            outputs, WIDTH, at_before, state[0], fresh[0], rows, follows, begins, again, WIDTH,
            wide, like,
        )  # fmt: skip
        before_c = before_h
        if STATES > 1:
            before_c = found(
                kept + CELL * H, KEPT, at_before, state[1], fresh[1], rows, follows, begins, again,
                H, units, like,
            )  # fmt: skip
        seen = before_h
        if read is not None:
            reading = noise_at(read, read_step, t, rows, WIDTH, wide, here_wide, like)
            seen = before_h * reading
        if seen_out is not None:
            tl.store(seen_out + at[:, None] * WIDTH + wide, seen, here_wide)

        keep = ()
        for number in tl.static_range(KEEPS):
            keep = keep + (loaded(kept + number * H, at, KEPT, units, here, like),)
        of_row = ()
        for number in tl.static_range(OF_ROW):
            place_of = kept + at[:, None] * KEPT + BLOCKS * H + number
            of_row = of_row + (tl.load(place_of, taken[:, None], 0).to(like),)
        if MADE >= 0:
            after = loaded(kept + MADE * H, at, KEPT, units, here, like)
        else:
            after = loaded(outputs, at, WIDTH, units, here & (units < WIDTH), like)
        factor = 1.0
        if drop is not None:
            factor = noise_at(drop, drop_step, t, rows, H, units, here, like)
        if SLICED:
            arrivals = back * (1 + EXCHANGES)
            if EXCHANGES > 0:
                sums_of_rows = partials + tl.program_id(0) * MEANS * tl.num_programs(1) * ROWS
                group = sums_of_rows, counter, arrivals
            dh, dc, fresh_h, fresh_c = finished(
                n + 1, arrivals, dh, dc, fresh_h, fresh_c, exchange, counter, weight, tiles, lows,
                resets, read, read_step, rows, ends, starts, B, wide, like, GATES, STATES, H, WIDTH,
                WHOLE, PARTS, CHUNK, PRECISION, REVERSE, WAITS,
            )  # fmt: skip
        made, stays_h = divided(
            dh, grad_outputs, at, zone_0, step_0, t, rows, WIDTH, wide, here_wide, like
        )
        if STATES > 1:
            through_c, stays_c = divided(
                dc, grad_cells, at, zone_1, step_1, t, rows, H, units, here, like
            )
        else:
            through_c, stays_c = dc, stays_h
        if projection is not None:
            tl.store(projected_out + at[:, None] * WIDTH + wide, made, here_wide)
            told = exchange + 2 * B * len(HIDDENS) * H + (n % 2) * B * WIDTH
            made = multiplied_back(
                (made,), projecting, projection, told, rows, there, here_wide, wide, units, like,
                (0,), 0, WIDTH, H, PRODUCT, CHUNK, PRECISION,
            )  # fmt: skip
        dz, dp, direct = cell(
            keep, of_row, (before_h, before_c), after, (made, through_c), p, factor, units, H,
            group,
        )  # fmt: skip
        added = tl.zeros((ROWS, WIDE), like)
        if len(LATER) > 0:
            told = exchange + 2 * B * len(EARLIER) * H + (n % 2) * B * H
            e = multiplied_back(
                dz[SLOTS - 1 :], tiles, weight, told, rows, there, here, units, wide, like,
                LATER, len(EARLIER), H, WIDTH, PRODUCT, CHUNK, PRECISION,
            )  # fmt: skip
            dz, added = late_backward(keep, seen, e, dz)
            if gated_out is not None:
                tl.store(gated_out + at[:, None] * H + units, late_again(keep, seen), here)
        if SLICED:  # before all that no other program waits for
            told = exchange + (n % 2) * B * GATES * H
            for s in tl.static_range(len(EARLIER)):
                column = EARLIER[s] * H + units
                tl.store(told + rows[:, None] * (GATES * H) + column, dz[HIDDEN_AT + s], own)
            if WAITS:
                slices.arrive(counter)
        for s in tl.static_range(SLOTS):
            tl.store(dz_out + at[:, None] * DZ + COLUMNS[s] * H + units, dz[s], here)
        if PRODUCT == "given":
            for s in tl.static_range(len(EARLIER)):
                column = EARLIER[s] * H + units
                tl.store(exchange + rows[:, None] * (GATES * H) + column, dz[HIDDEN_AT + s], own)
        elif len(EARLIER) > 0 and not SLICED:
            told = exchange + (n % 2) * B * len(EARLIER) * H
            added += multiplied_back(
                dz[HIDDEN_AT:], tiles, weight, told, rows, there, here, units, wide, like,
                EARLIER, 0, H, WIDTH, PRODUCT, CHUNK, PRECISION,
            )  # fmt: skip
        if read is not None and not APART:
            added *= reading
        if projection is None:
            added += direct[0]
        dh = tl.where(here_wide, added + stays_h, dh)
        if STATES > 1:
            dc = tl.where(here, direct[1] + stays_c, dc)
        if resets is not None and not APART:
            dh, fresh_h = restart(dh, fresh_h, again[:, None])
            if STATES > 1:
                dc, fresh_c = restart(dc, fresh_c, again[:, None])
        added_up = ()
        for number in tl.static_range(PARAMETERS):
            own_part = tl.sum(tl.where(here, dp[number], 0.0), 0, keep_dims=True)
            added_up = added_up + (summed[number] + own_part,)
        summed = added_up

    if SLICED and (WAITS or first == past):
        dh, dc, fresh_h, fresh_c = finished(
            first, (last - first) * (1 + EXCHANGES), dh, dc, fresh_h, fresh_c, exchange, counter,
            weight, tiles, lows, resets, read, read_step, rows, ends, starts, B, wide, like, GATES,
            STATES, H, WIDTH, WHOLE, PARTS, CHUNK, PRECISION, REVERSE, WAITS,
        )  # fmt: skip
    tl.store(grads[0] + rows[:, None] * WIDTH + wide, dh, own_wide)
    if STATES > 1:
        tl.store(grads[1] + rows[:, None] * H + units, dc, own)
    if resets is not None:
        tl.store(grads[2] + rows[:, None] * WIDTH + wide, fresh_h, own_wide)
        if STATES > 1:
            tl.store(grads[3] + rows[:, None] * H + units, fresh_c, own)
    for number in tl.static_range(PARAMETERS):
        tl.store(partial + number * H, summed[number], in_units)
