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

from seqcells.kernels.triton.late import late_again
from seqcells.kernels.triton.maths import dot
from seqcells.kernels.triton.tiles import (
    loaded,
    noise_at,
    place,
    products_back,
    restarts,
    rows_of,
    weight_tile_back,
)


@triton.jit
def restart(grad, fresh, again):
    """A gradient by the state as the step found it, which a restart sends to the fresh state."""
    return tl.where(again, 0.0, grad), fresh + tl.where(again, grad, 0.0)


@triton.jit(do_not_specialize=["B", "T", "first", "past"])
def backward(
    weights, state, fresh, noise, noise_steps, given_rows, done, upstream, grads, exchange, through,
    results,
    B, T, first, past,
    cell: tl.constexpr, late_backward: tl.constexpr, like: tl.constexpr, H: tl.constexpr,
    WIDTH: tl.constexpr, GATES: tl.constexpr, SLOTS: tl.constexpr, HIDDENS: tl.constexpr,
    HIDDEN_AT: tl.constexpr, COLUMNS: tl.constexpr, DZ: tl.constexpr, EARLIER: tl.constexpr,
    LATER: tl.constexpr, STATES: tl.constexpr, PARAMETERS: tl.constexpr, OF_ROW: tl.constexpr,
    KEEPS: tl.constexpr, CELL: tl.constexpr, MADE: tl.constexpr, BLOCKS: tl.constexpr,
    KEPT: tl.constexpr, REVERSE: tl.constexpr, PRODUCT: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, WIDE: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Steps `past` back to `first`, from the gradients by the state and back into them.

    Args:
        done: what the forward pass left, outputs and what is kept.
        upstream: the gradients by the outputs and by the second parts of the states.
        grads: those by the two parts of the state, then by those of the fresh one.
        exchange: room for `dz`, which threads tell each other or the caller.
        through: `(B, WIDTH)`, `W_hh^T dz` of the step `past` where it is given.
        results: `dz (N, DZ)`, of each slot in its column; what the weights read of the state, and
            that of the last product; the gradient by what was projected; that by the parameters,
            summed over each program's rows.
    """
    weight, bias, projection, parameters = weights
    read, drop, zone_0, zone_1 = noise
    read_step, drop_step, step_0, step_1 = noise_steps
    order, lengths, starts, resets = given_rows
    outputs, kept = done
    grad_outputs, grad_cells = upstream
    dz_out, seen_out, gated_out, projected_out, summed_out = results

    rows, ends = rows_of(given_rows, B, T, ROWS)
    there = ends > 0
    exists = tl.program_id(0) * ROWS + tl.arange(0, ROWS) < B
    units = (tl.program_id(1) * UNITS + tl.arange(0, UNITS))[None, :]
    wide = (tl.program_id(1) * WIDE + tl.arange(0, WIDE))[None, :]
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
    partial = summed_out + tl.program_id(0) * PARAMETERS * H + units
    for number in tl.static_range(PARAMETERS):
        p = p + (tl.load(parameters + number * H + units, in_units, 0).to(like),)
        summed = summed + (tl.load(partial + number * H, in_units, 0),)
    tiles = ()
    k = tl.arange(0, UNITS)
    for s in tl.static_range(len(HIDDENS)):
        if PRODUCT == "resident":
            tiles = tiles + (weight_tile_back(weight, HIDDENS[s], k, wide, H, WIDTH),)
    if projection is not None and PRODUCT == "resident":
        projecting = weight_tile_back(projection, 0, tl.arange(0, WIDE), units, WIDTH, H)

    if PRODUCT == "given":  # what the step that ran before this one lacks
        taken, t, at = place(past, rows, ends, starts, B, REVERSE)
        here_wide = taken[:, None] & in_wide
        added = loaded(through, rows, WIDTH, wide, here_wide, like)
        if read is not None:
            added *= noise_at(read, read_step, t, rows, WIDTH, wide, here_wide, like)
        dh += added
        if resets is not None:
            again = restarts(resets, t, rows, taken, B)[:, None]
            dh, fresh_h = restart(dh, fresh_h, again)
            if STATES > 1:
                dc, fresh_c = restart(dc, fresh_c, again)

    last = tl.minimum(past, tl.max(ends))
    for back in range(last - first):
        n = last - 1 - back
        taken, t, at = place(n, rows, ends, starts, B, REVERSE)
        followed, _, at_before = place(n - 1, rows, ends, starts, B, REVERSE)
        here, here_wide = taken[:, None] & in_units, taken[:, None] & in_wide
        follows = taken & followed
        begins = taken & (n == 0)
        if resets is not None:
            again = restarts(resets, t, rows, taken, B)
            follows, begins = follows & ~again, begins & ~again
        before_h = loaded(outputs, at_before, WIDTH, wide, follows[:, None] & in_wide, like)
        before_h += loaded(state[0], rows, WIDTH, wide, begins[:, None] & in_wide, like)
        before_c = before_h
        if STATES > 1:
            mask = follows[:, None] & in_units
            before_c = loaded(kept + CELL * H, at_before, KEPT, units, mask, like)
            before_c += loaded(state[1], rows, H, units, begins[:, None] & in_units, like)
        if resets is not None:
            restarted = again[:, None]
            before_h += loaded(fresh[0], rows, WIDTH, wide, restarted & in_wide, like)
            if STATES > 1:
                before_c += loaded(fresh[1], rows, H, units, restarted & in_units, like)
        seen = before_h
        if read is not None:
            reading = noise_at(read, read_step, t, rows, WIDTH, wide, here_wide, like)
            seen = before_h * reading
        if seen_out is not None:
            tl.store(seen_out + at[:, None] * WIDTH + wide, seen, here_wide)

        made, stays_h, stays_c = dh, tl.zeros((ROWS, WIDE), like), tl.zeros((ROWS, UNITS), like)
        through_c = dc
        if grad_outputs is not None:
            made += loaded(grad_outputs, at, WIDTH, wide, here_wide, like)
        if grad_cells is not None:
            through_c += loaded(grad_cells, at, H, units, here, like)
        if zone_0 is not None:
            stays_h = made * noise_at(zone_0, step_0, t, rows, WIDTH, wide, here_wide, like)
            made -= stays_h
        if zone_1 is not None:
            stays_c = through_c * noise_at(zone_1, step_1, t, rows, H, units, here, like)
            through_c -= stays_c
        if projection is not None:
            tl.store(projected_out + at[:, None] * WIDTH + wide, made, here_wide)
            if PRODUCT == "resident":
                said = tl.where(here_wide, made, 0.0).to(projection.dtype.element_ty)
                made = dot(said, projecting, like, PRECISION)
            else:
                told = exchange + 2 * B * len(HIDDENS) * H + (n % 2) * B * WIDTH
                tl.store(told + rows[:, None] * WIDTH + wide, made, here_wide)
                tl.debug_barrier()
                made = products_back(
                    told, rows, there, projection, units, like, (0,), WIDTH, H, CHUNK, PRECISION
                )
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
        dz, dp, direct = cell(
            keep, of_row, (before_h, before_c), after, (made, through_c), p, factor, units, H
        )
        added = tl.zeros((ROWS, WIDE), like)
        if len(LATER) > 0:
            said = tl.where(here, dz[SLOTS - 1], 0.0).to(weight.dtype.element_ty)
            if PRODUCT == "resident":
                e = dot(said, tiles[len(EARLIER)], like, PRECISION)
            else:
                told = exchange + 2 * B * len(EARLIER) * H + (n % 2) * B * H
                tl.store(told + rows[:, None] * H + units, said, here)
                tl.debug_barrier()
                e = products_back(
                    told, rows, there, weight, wide, like, LATER, H, WIDTH, CHUNK,
                    PRECISION,
                )  # fmt: skip
            dz, added = late_backward(keep, seen, e, dz)
            if gated_out is not None:
                tl.store(gated_out + at[:, None] * H + units, late_again(keep, seen), here)
        told = exchange
        if PRODUCT == "memory":
            told += (n % 2) * B * len(EARLIER) * H
        for s in tl.static_range(SLOTS):
            tl.store(dz_out + at[:, None] * DZ + COLUMNS[s] * H + units, dz[s], here)
            if s >= HIDDEN_AT and s - HIDDEN_AT < len(EARLIER):
                if PRODUCT == "resident":
                    said = tl.where(here, dz[s], 0.0).to(weight.dtype.element_ty)
                    tile = tiles[s - HIDDEN_AT]
                    added += dot(said, tile, like, PRECISION)
                elif PRODUCT == "memory":
                    column = (s - HIDDEN_AT) * H + units
                    tl.store(told + rows[:, None] * (len(EARLIER) * H) + column, dz[s], here)
                elif PRODUCT == "given":
                    column = HIDDENS[s - HIDDEN_AT] * H + units
                    tl.store(told + rows[:, None] * (GATES * H) + column, dz[s], own)
        if PRODUCT == "memory" and len(EARLIER) > 0:
            tl.debug_barrier()
            added += products_back(
                told, rows, there, weight, wide, like, EARLIER, H, WIDTH, CHUNK, PRECISION
            )
        if read is not None:
            added *= reading
        if projection is None:
            added += direct[0]
        dh = tl.where(here_wide, added + stays_h, dh)
        if STATES > 1:
            dc = tl.where(here, direct[1] + stays_c, dc)
        if resets is not None and PRODUCT != "given":
            dh, fresh_h = restart(dh, fresh_h, restarted)
            if STATES > 1:
                dc, fresh_c = restart(dc, fresh_c, restarted)
        added_up = ()
        for number in tl.static_range(PARAMETERS):
            own_part = tl.sum(tl.where(here, dp[number], 0.0), 0, keep_dims=True)
            added_up = added_up + (summed[number] + own_part,)
        summed = added_up

    tl.store(grads[0] + rows[:, None] * WIDTH + wide, dh, own_wide)
    if STATES > 1:
        tl.store(grads[1] + rows[:, None] * H + units, dc, own)
    if resets is not None:
        tl.store(grads[2] + rows[:, None] * WIDTH + wide, fresh_h, own_wide)
        if STATES > 1:
            tl.store(grads[3] + rows[:, None] * H + units, fresh_c, own)
    for number in tl.static_range(PARAMETERS):
        tl.store(partial + number * H, summed[number], in_units)
