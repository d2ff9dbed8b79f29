"""Backward kernel: computes gradients by the sums `z`, the states and the step's parameters.

The caller computes the gradients by weights and inputs as products of `dz` over all steps.

With L the loss, h the hidden state, s the state and dh = dL/dh etc., from the last step to the
first:

    dh += dL/dy_t                  upstream gradient by the output
    dz, ds' = the cell's gradient  elementwise, s' the state before the step
    dh' += W_hh^T dz               by `PRODUCT`, as in forward_kernel.py

Before the cell's gradient, from the last stage of late products to the first, the kernel computes
the gradient `e` by the operand of a stage: W_hh^T dz of the gates of the stage.
"""

import triton
import triton.language as tl

from seqcells.kernels.triton import cooperative
from seqcells.kernels.triton.parts import load_parts, store_parts
from seqcells.kernels.triton.previous_state import (
    add_recurrent_gradient,
    finish_previous_step,
    load_previous,
    reset_gradients,
    split_zoneout,
)
from seqcells.kernels.triton.products import multiply_transposed, transposed_weight_tile
from seqcells.kernels.triton.tiles import (
    load_noise,
    load_resets,
    load_units,
    locate_step,
    program_rows,
    program_units,
)


@triton.jit(do_not_specialize=["B", "T", "first", "past"])
def backward(
    weights, state, fresh, noise, noise_steps, row_info, forward_results, upstream, grad_state,
    grad_fresh, exchange, counters, partials, recurrent_grad, results, B, T, first, past,
    cell: tl.constexpr, late_gradient: tl.constexpr, dtype: tl.constexpr, H: tl.constexpr,
    WIDTH: tl.constexpr, GATES: tl.constexpr, SLOTS: tl.constexpr, HIDDENS: tl.constexpr,
    HIDDEN_AT: tl.constexpr, FROM: tl.constexpr, COUNT: tl.constexpr, COLUMNS: tl.constexpr,
    DZ: tl.constexpr, PARAMETERS: tl.constexpr, ROW_VALUES: tl.constexpr,
    SAVED: tl.constexpr, SAVED_STATES: tl.constexpr, BEFORE_ZONEOUT: tl.constexpr,
    BLOCKS: tl.constexpr, SAVED_WIDTH: tl.constexpr, REVERSE: tl.constexpr, PRODUCT: tl.constexpr,
    PRECISION: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, WIDE: tl.constexpr,
    WHOLE: tl.constexpr, PARTS: tl.constexpr, CHUNK: tl.constexpr, MEANS: tl.constexpr,
    EXCHANGES: tl.constexpr, WAITS: tl.constexpr,
):  # fmt: skip
    """Run steps `past` - 1 back to `first`, updating the gradients by the state in place.

    Args:
        forward_results: outputs and saved values of the forward pass.
        upstream: gradients by `results` of the forward kernel.
        grad_state: gradients by the parts of the state.
        grad_fresh: gradients by the parts of the fresh state.
        exchange: buffer for the published `dz`.
        counters: number of slices published by the programs of the same rows, 32 numbers apart.
        partials: buffer for partial sums over whole rows.
        recurrent_grad: `(B, WIDTH)`, `W_hh^T dz` of step `past` if the product is external.
        results: buffers for `dz (N, DZ)`, each slot in its column; the hidden state that the
            recurrent weights multiply; the operands of late products, side by side; the gradient by
            the projected state; the gradient by the parameters, summed over each program's rows.

    The other arguments are those of the forward kernel.
    """
    weight, low, bias, projection, parameters = weights
    read, drop, zone, zone_step = noise[0], noise[1], noise[2:], noise_steps[2:]
    read_step, drop_step = noise_steps[0], noise_steps[1]
    order, lengths, starts, resets = row_info
    outputs, saved = forward_results
    dz_out, h_read_out, operands_out, projected_out, summed_out = results

    SLICED: tl.constexpr = PRODUCT == "split" or PRODUCT == "streamed"
    EARLY: tl.constexpr = COUNT[0]
    EARLY_AT: tl.constexpr = HIDDEN_AT + FROM[0]
    # `W_hh^T dz` of a step is added to the gradient by the state in the next iteration.
    DEFERRED: tl.constexpr = SLICED or PRODUCT == "external"
    counter = counters
    if SLICED:
        counter = counters + tl.program_id(0) * 32

    rows, exists, ends = program_rows(row_info, B, T, ROWS)
    nonempty = ends > 0
    units, wide = program_units(UNITS), program_units(WIDE)
    in_units, in_wide = units < H, wide < WIDTH
    mask, mask_wide = exists[:, None] & in_units, exists[:, None] & in_wide
    grads = load_parts(grad_state, rows, WIDTH, H, wide, units, mask_wide, mask, dtype)
    fresh_grads = ()
    if resets is not None:
        fresh_grads = load_parts(grad_fresh, rows, WIDTH, H, wide, units, mask_wide, mask, dtype)
    p = ()
    summed = ()
    partial = summed_out
    if PARAMETERS > 0:
        partial = summed_out + tl.program_id(0) * PARAMETERS * H + units
    for number in tl.static_range(PARAMETERS):
        p = p + (tl.load(parameters + number * H + units, in_units, 0).to(dtype),)
        summed = summed + (tl.load(partial + number * H, in_units, 0),)
    tiles = ()
    k = tl.arange(0, UNITS)
    for s in tl.static_range(len(HIDDENS)):
        if PRODUCT == "resident":
            tiles = tiles + (transposed_weight_tile(weight, HIDDENS[s], k, wide, H, WIDTH),)
    low_tiles = ()
    if PRODUCT == "split":
        tiles = cooperative.load_weight_tiles(weight, wide, True, GATES, H, WHOLE, PARTS, CHUNK)
        if low is not None:
            low_tiles = cooperative.load_weight_tiles(
                low, wide, True, GATES, H, WHOLE, PARTS, CHUNK
            )
    projection_tiles = ()
    if projection is not None and PRODUCT == "resident":
        k_wide = tl.arange(0, WIDE)
        projection_tiles = (transposed_weight_tile(projection, 0, k_wide, units, WIDTH, H),)

    if PRODUCT == "external":
        active, t, at = locate_step(past, rows, ends, starts, B, REVERSE)
        added = load_units(recurrent_grad, rows, WIDTH, wide, active[:, None] & in_wide, dtype)
        grads, fresh_grads = add_recurrent_gradient(
            added, grads, fresh_grads, resets, read, read_step, t, rows, active, B, wide, dtype,
            WIDTH,
        )  # fmt: skip

    last = tl.minimum(past, tl.max(ends))
    for back in range(last - first):
        n, group = last - 1 - back, None
        active, t, at = locate_step(n, rows, ends, starts, B, REVERSE)
        has_previous, _, at_previous = locate_step(n - 1, rows, ends, starts, B, REVERSE)
        active_units, active_wide = active[:, None] & in_units, active[:, None] & in_wide
        reset = active & False
        if resets is not None:
            reset = load_resets(resets, t, rows, active, B)
        from_previous, from_initial = active & has_previous & ~reset, active & (n == 0) & ~reset
        before_h = load_previous(
            outputs, WIDTH, at_previous, state[0], fresh[0], rows, from_previous, from_initial,
            reset, WIDTH, wide, dtype,
        )  # fmt: skip
        before = (before_h,)
        for i in tl.static_range(1, len(state)):
            part = load_previous(
                saved + SAVED_STATES[i - 1] * H, SAVED_WIDTH, at_previous, state[i], fresh[i], rows,
                from_previous, from_initial, reset, H, units, dtype,
            )  # fmt: skip
            before = before + (part,)
        h_read = before_h
        if read is not None:
            read_factor = load_noise(read, read_step, t, rows, WIDTH, wide, active_wide, dtype)
            h_read = before_h * read_factor
        if h_read_out is not None:
            tl.store(h_read_out + at[:, None] * WIDTH + wide, h_read, active_wide)

        step_saved = ()
        for number in tl.static_range(SAVED):
            value = load_units(saved + number * H, at, SAVED_WIDTH, units, active_units, dtype)
            step_saved = step_saved + (value,)
        row_values = ()
        for number in tl.static_range(ROW_VALUES):
            pointer = saved + at[:, None] * SAVED_WIDTH + BLOCKS * H + number
            row_values = row_values + (tl.load(pointer, active[:, None], 0).to(dtype),)
        if BEFORE_ZONEOUT >= 0:
            pointer = saved + BEFORE_ZONEOUT * H
            after = load_units(pointer, at, SAVED_WIDTH, units, active_units, dtype)
        else:
            after = load_units(outputs, at, WIDTH, units, active_units & (units < WIDTH), dtype)
        factor = 1.0
        if drop is not None:
            factor = load_noise(drop, drop_step, t, rows, H, units, active_units, dtype)
        if SLICED:
            arrivals = back * (1 + EXCHANGES)
            if EXCHANGES > 0:
                sums_of_rows = partials + tl.program_id(0) * MEANS * tl.num_programs(1) * ROWS
                group = sums_of_rows, counter, arrivals
            grads, fresh_grads = finish_previous_step(
                n + 1, arrivals, grads, fresh_grads, exchange, counter, weight, tiles, low_tiles,
                resets, read, read_step, rows, ends, starts, B, wide, dtype, GATES, H, WIDTH, WHOLE,
                PARTS, CHUNK, PRECISION, REVERSE, WAITS,
            )  # fmt: skip
        new, old = split_zoneout(
            grads[0], upstream[0], at, zone[0], zone_step[0], t, rows, WIDTH, wide, active_wide,
            dtype,
        )  # fmt: skip
        new_grads = (new,)
        old_grads = (old,)
        for i in tl.static_range(1, len(state)):
            new, old = split_zoneout(
                grads[i], upstream[i], at, zone[i], zone_step[i], t, rows, H, units, active_units,
                dtype,
            )  # fmt: skip
            new_grads = new_grads + (new,)
            old_grads = old_grads + (old,)
        if projection is not None:
            tl.store(projected_out + at[:, None] * WIDTH + wide, new_grads[0], active_wide)
            buffer = exchange + 2 * B * len(HIDDENS) * H + (n % 2) * B * WIDTH
            unprojected = multiply_transposed(
                new_grads, projection_tiles, projection, buffer, rows, nonempty, active_wide, wide,
                units, dtype, (0,), 0, 1, WIDTH, H, PRODUCT, CHUNK, PRECISION,
            )  # fmt: skip
            new_grads = (unprojected,) + new_grads[1:]
        e = ()
        for _ in tl.static_range(1, len(COUNT)):
            e = e + (tl.zeros((ROWS, UNITS), dtype),)
        for stage in tl.static_range(len(COUNT) - 1, 0, -1):
            parts = late_gradient(
                step_saved, row_values, before, after, new_grads, p, factor, e, units, H, group,
                stage - 1,
            )  # fmt: skip
            buffer = exchange + (2 * FROM[stage] + (n % 2) * COUNT[stage]) * B * H
            by_operand = multiply_transposed(
                parts, tiles, weight, buffer, rows, nonempty, active_units, units, wide, dtype,
                HIDDENS, FROM[stage], COUNT[stage], H, WIDTH, PRODUCT, CHUNK, PRECISION,
            )  # fmt: skip
            if read is not None:
                by_operand *= read_factor
            e = e[: stage - 1] + (by_operand,) + e[stage:]
        if len(COUNT) > 1:
            dz, dp, direct, operands = cell(
                step_saved, row_values, before, after, new_grads, p, factor, e, units, H, group
            )
            for s in tl.static_range(len(operands)):
                operand = operands[s]
                if read is not None:
                    operand *= read_factor
                if operands_out is not None:
                    pointer = operands_out + at[:, None] * (len(operands) * H) + s * H + units
                    tl.store(pointer, operand, active_units)
        else:
            dz, dp, direct = cell(
                step_saved, row_values, before, after, new_grads, p, factor, units, H, group
            )
        if SLICED:  # first, since other programs wait for it
            buffer = exchange + (n % 2) * B * GATES * H
            for s in tl.static_range(EARLY):
                column, part = HIDDENS[FROM[0] + s] * H + units, dz[EARLY_AT + s]
                tl.store(buffer + rows[:, None] * (GATES * H) + column, part, mask)
            if WAITS:
                cooperative.arrive(counter)
        for s in tl.static_range(SLOTS):
            tl.store(dz_out + at[:, None] * DZ + COLUMNS[s] * H + units, dz[s], active_units)
        if PRODUCT == "external":
            for s in tl.static_range(EARLY):
                column, part = HIDDENS[FROM[0] + s] * H + units, dz[EARLY_AT + s]
                tl.store(exchange + rows[:, None] * (GATES * H) + column, part, mask)
        added = tl.zeros((ROWS, WIDE), dtype)
        if EARLY > 0 and not DEFERRED:
            buffer = exchange + (2 * FROM[0] + (n % 2) * EARLY) * B * H
            added += multiply_transposed(
                dz[EARLY_AT:], tiles, weight, buffer, rows, nonempty, active_units, units, wide,
                dtype, HIDDENS, FROM[0], EARLY, H, WIDTH, PRODUCT, CHUNK, PRECISION,
            )  # fmt: skip
        if read is not None and not DEFERRED:
            added *= read_factor
        if projection is None:
            added += direct[0]
        before_grads = (tl.where(active_wide, added + old_grads[0], grads[0]),)
        for i in tl.static_range(1, len(state)):
            part = tl.where(active_units, direct[i] + old_grads[i], grads[i])
            before_grads = before_grads + (part,)
        grads = before_grads
        if resets is not None and not DEFERRED:
            grads, fresh_grads = reset_gradients(grads, fresh_grads, reset[:, None])
        new_sums = ()
        for number in tl.static_range(PARAMETERS):
            row_sum = tl.sum(tl.where(active_units, dp[number], 0.0), 0, keep_dims=True)
            new_sums = new_sums + (summed[number] + row_sum,)
        summed = new_sums

    if SLICED and (WAITS or first == past):
        grads, fresh_grads = finish_previous_step(
            first, (last - first) * (1 + EXCHANGES), grads, fresh_grads, exchange, counter, weight,
            tiles, low_tiles, resets, read, read_step, rows, ends, starts, B, wide, dtype, GATES, H,
            WIDTH, WHOLE, PARTS, CHUNK, PRECISION, REVERSE, WAITS,
        )  # fmt: skip
    store_parts(grad_state, grads, rows, WIDTH, H, wide, units, mask_wide, mask)
    if resets is not None:
        store_parts(grad_fresh, fresh_grads, rows, WIDTH, H, wide, units, mask_wide, mask)
    for number in tl.static_range(PARAMETERS):
        tl.store(partial + number * H, summed[number], in_units)
