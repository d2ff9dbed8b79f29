"""Forward kernel: runs the steps of a recurrence from precomputed products with the inputs.

`PRODUCT` selects how the recurrent product of a step is computed:

    "resident"    in the kernel; a program loads all weights once
    "memory"      in the kernel; a program reads weights and state from memory at each step
    "split"       in the kernel; a program loads the weights of a slice of units once
    "streamed"    in the kernel; a program reads the weights of a slice of units at each step
    "external"    by the caller, between launches of one step each
    "none"        the cell has no recurrent product

One launch runs all steps, except for "external". Programs with a slice of units publish it in
`exchange` and wait for the other programs of the same rows before each product. This requires a
cooperative launch. Triton's interpreter runs one program after another and cannot wait (`WAITS` is
False). There, a launch without steps publishes the initial state, and each step is a separate
launch.
"""

import triton
import triton.language as tl

from seqcells.kernels.triton import cooperative
from seqcells.kernels.triton.parts import (
    apply_reset,
    apply_resets,
    apply_zoneout,
    load_parts,
    store_parts,
)
from seqcells.kernels.triton.products import multiply, weight_tile
from seqcells.kernels.triton.tiles import (
    load_noise,
    load_resets,
    load_units,
    locate_step,
    program_rows,
    program_units,
)


@triton.jit
def publish(
    h, to, fresh, resets, read, read_step, n, rows, exists, ends, starts, B, units,
    dtype: tl.constexpr, WIDTH: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """Store the hidden state that step n multiplies: after resets, with noise."""
    active, t, at = locate_step(n, rows, ends, starts, B, REVERSE)
    mask = active[:, None] & (units < WIDTH)
    if resets is not None:
        reset = load_resets(resets, t, rows, active, B)
        h = apply_reset(h, fresh, reset, rows, WIDTH, units, mask, dtype)
    if read is not None:
        h = h * load_noise(read, read_step, t, rows, WIDTH, units, mask, dtype)
    tl.store(to + rows[:, None] * WIDTH + units, h, exists[:, None] & (units < WIDTH))


@triton.jit
def read_inputs(
    from_input, at, units, mask, dtype: tl.constexpr, H: tl.constexpr, INPUT_GATES: tl.constexpr,
    INPUTS: tl.constexpr,
):  # fmt: skip
    """Load the product with the inputs for each slot that has one."""
    results = ()
    for s in tl.static_range(len(INPUTS)):
        product = load_units(from_input + INPUTS[s] * H, at, INPUT_GATES * H, units, mask, dtype)
        results = results + (product,)
    return results


@triton.jit
def start_sums(
    inputs, mask, biases, dtype: tl.constexpr, SLOTS: tl.constexpr, HIDDEN_AT: tl.constexpr
):
    """Return each slot's sum of its input product and the bias of its recurrent product."""
    z = ()
    for s in tl.static_range(SLOTS):
        total = tl.zeros(mask.shape, dtype)
        if s < len(inputs):
            total = inputs[s]
        if s >= HIDDEN_AT and s - HIDDEN_AT < len(biases):
            total += biases[s - HIDDEN_AT]
        z = z + (total,)
    return z


@triton.jit
def add_products(z, products, FIRST: tl.constexpr):
    """Add recurrent products to the sums of adjacent slots, of which `FIRST` is the first."""
    sums = z[:FIRST]
    for s in tl.static_range(len(products)):
        sums = sums + (z[FIRST + s] + products[s],)
    return sums + z[FIRST + len(products) :]


@triton.jit(do_not_specialize=["B", "T", "first", "past"])
def forward(
    from_input, weights, state, fresh, noise, noise_steps, row_info, exchange, counters, partials,
    sums, results, saved, B, T, first, past,
    cell: tl.constexpr, late_operand: tl.constexpr, dtype: tl.constexpr, H: tl.constexpr,
    WIDTH: tl.constexpr, GATES: tl.constexpr, INPUT_GATES: tl.constexpr, SLOTS: tl.constexpr,
    INPUTS: tl.constexpr, HIDDENS: tl.constexpr, HIDDEN_AT: tl.constexpr, FROM: tl.constexpr,
    COUNT: tl.constexpr, PARAMETERS: tl.constexpr, SAVED_STATES: tl.constexpr,
    SAVES_AFTER_ZONEOUT: tl.constexpr, BEFORE_ZONEOUT: tl.constexpr, UNPROJECTED: tl.constexpr,
    BLOCKS: tl.constexpr, SAVED_WIDTH: tl.constexpr, REVERSE: tl.constexpr, PRODUCT: tl.constexpr,
    PRECISION: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, WIDE: tl.constexpr,
    WHOLE: tl.constexpr, PARTS: tl.constexpr, CHUNK: tl.constexpr, MEANS: tl.constexpr,
    EXCHANGES: tl.constexpr, WAITS: tl.constexpr,
):  # fmt: skip
    """Run steps `first` to `past` - 1, reading and updating the state `(B, ...)` in place.

    `HIDDENS` holds the gates of the slots from `HIDDEN_AT` on, which contain a recurrent product.
    Product 0 multiplies the hidden state, product n the operand of stage n of the late products. It
    has `COUNT[n]` gates, from `HIDDENS[FROM[n]]` on.

    Args:
        from_input: `(N, INPUT_GATES * H)`, the products with the inputs, biases included.
        weights: the recurrent weights, their low digits (or None), their bias, the projection, and
            the parameters that the step reads outside the products.
        noise: the factors `read` and `drop`, and the zoneout share of each part of the state.
        noise_steps: the stride in time of each noise, 0 for one per sequence.
        row_info: the order of the rows, lengths, start of each packed step, resets.
        exchange: buffer for the published state.
        counters: number of slices published by the programs of the same rows, 32 numbers apart.
        partials: buffer for partial sums over whole rows.
        sums: `(B, GATES * H)`, the recurrent product if it is external.
        results: buffers for the outputs, and for each further part of the state after every step.
        saved: buffer for saved values.
    """
    weight, low, bias, projection, parameters = weights
    read, drop, zone, zone_step = noise[0], noise[1], noise[2:], noise_steps[2:]
    read_step, drop_step = noise_steps[0], noise_steps[1]
    order, lengths, starts, resets = row_info
    SPAN: tl.constexpr = max(H, WIDTH)
    SLICED: tl.constexpr = PRODUCT == "split" or PRODUCT == "streamed"
    EARLY: tl.constexpr = COUNT[0]
    counter = counters
    if SLICED:
        counter = counters + tl.program_id(0) * 32

    rows, exists, ends = program_rows(row_info, B, T, ROWS)
    nonempty = ends > 0
    units, wide = program_units(UNITS), program_units(WIDE)
    in_units, in_wide = units < H, wide < WIDTH
    mask, mask_wide = exists[:, None] & in_units, exists[:, None] & in_wide
    parts = load_parts(state, rows, WIDTH, H, wide, units, mask_wide, mask, dtype)
    h, further = parts[0], parts[1:]
    p = ()
    for n in tl.static_range(PARAMETERS):
        p = p + (tl.load(parameters + n * H + units, in_units, 0).to(dtype),)
    biases = ()
    tiles = ()
    k = tl.arange(0, WIDE)
    for s in tl.static_range(len(HIDDENS)):
        if PRODUCT == "resident":
            tiles = tiles + (weight_tile(weight, HIDDENS[s], k, units, H, WIDTH),)
        if bias is not None and PRODUCT != "external":
            biases = biases + (tl.load(bias + HIDDENS[s] * H + units, in_units, 0).to(dtype),)
    low_tiles = ()
    if PRODUCT == "split":
        tiles = cooperative.load_weight_tiles(weight, units, False, GATES, H, WHOLE, PARTS, CHUNK)
        if low is not None:
            low_tiles = cooperative.load_weight_tiles(
                low, units, False, GATES, H, WHOLE, PARTS, CHUNK
            )
    projection_tiles = ()
    if projection is not None and PRODUCT == "resident":
        projection_tiles = (weight_tile(projection, 0, tl.arange(0, UNITS), wide, WIDTH, H),)

    if SLICED and (WAITS or first == past):
        publish(
            h, exchange + (first % 2) * B * SPAN, fresh[0], resets, read, read_step, first, rows,
            exists, ends, starts, B, wide, dtype, WIDTH, REVERSE,
        )  # fmt: skip
        if WAITS:
            cooperative.arrive(counter)
    for n in range(first, tl.minimum(past, tl.max(ends))):
        group = None
        active, t, at = locate_step(n, rows, ends, starts, B, REVERSE)
        active_units, active_wide = active[:, None] & in_units, active[:, None] & in_wide
        if resets is not None:
            reset = load_resets(resets, t, rows, active, B)
            h = apply_reset(h, fresh[0], reset, rows, WIDTH, wide, active_wide, dtype)
            further = apply_resets(further, fresh[1:], reset, rows, H, units, active_units, dtype)
        inputs = read_inputs(from_input, at, units, active_units, dtype, H, INPUT_GATES, INPUTS)
        h_read = h
        if read is not None and not SLICED:
            read_factor = load_noise(read, read_step, t, rows, WIDTH, wide, active_wide, dtype)
            h_read = h * read_factor

        hidden = ()
        if PRODUCT == "external":
            for s in tl.static_range(EARLY):
                column = sums + HIDDENS[FROM[0] + s] * H
                total = load_units(column, rows, GATES * H, units, active_units, dtype)
                hidden = hidden + (total,)
        elif SLICED:
            arrivals = (n - first) * (1 + EXCHANGES) + 1
            if EXCHANGES > 0:
                sums_of_rows = partials + tl.program_id(0) * MEANS * tl.num_programs(1) * ROWS
                group = sums_of_rows, counter, arrivals
            if WAITS:
                cooperative.wait(counter, arrivals * tl.num_programs(1))
            buffer = exchange + (n % 2) * B * SPAN
            gate_products = cooperative.products(
                buffer, rows, nonempty, weight, tiles, low_tiles, units, dtype, GATES, H, WHOLE,
                CHUNK, PRECISION,
            )  # fmt: skip
            for s in tl.static_range(EARLY):
                hidden = hidden + (gate_products[HIDDENS[FROM[0] + s]],)
        elif EARLY > 0:
            buffer = exchange + (n % 2) * B * SPAN
            hidden = multiply(
                h_read, tiles, weight, buffer, rows, nonempty, active_wide, wide, units, dtype,
                HIDDENS, FROM[0], EARLY, H, WIDTH, PRODUCT, CHUNK, PRECISION,
            )  # fmt: skip
        z = start_sums(inputs, active_units, biases, dtype, SLOTS, HIDDEN_AT)
        z = add_products(z, hidden, HIDDEN_AT + FROM[0])
        factor = 1.0
        if drop is not None:
            factor = load_noise(drop, drop_step, t, rows, H, units, active_units, dtype)
        for stage in tl.static_range(1, len(COUNT)):
            (operand,) = late_operand(z, (h,) + further, p, factor, units, H, group, stage - 1)
            if read is not None:
                operand *= read_factor
            # The product reads all units of the tile. Those that do not exist may be NaN.
            operand = tl.where(active_units, operand, 0.0)
            buffer = exchange + (2 * stage + n % 2) * B * SPAN
            hidden = multiply(
                operand, tiles, weight, buffer, rows, nonempty, active_wide, wide, units, dtype,
                HIDDENS, FROM[stage], COUNT[stage], H, WIDTH, PRODUCT, CHUNK, PRECISION,
            )  # fmt: skip
            z = add_products(z, hidden, HIDDEN_AT + FROM[stage])
        new, step_saved, row_values = cell(z, (h,) + further, p, factor, units, H, group)
        new_h = new[0]
        if projection is not None:
            buffer = exchange + (2 * len(COUNT) + n % 2) * B * SPAN
            (new_h,) = multiply(
                new_h, projection_tiles, projection, buffer, rows, nonempty, active_units, units,
                wide, dtype, (0,), 0, 1, WIDTH, H, PRODUCT, CHUNK, PRECISION,
            )  # fmt: skip
        h = apply_zoneout(h, new_h, zone[0], zone_step[0], t, rows, WIDTH, wide, active_wide, dtype)
        if SLICED:  # first, since other programs wait for it
            publish(
                h, exchange + ((n + 1) % 2) * B * SPAN, fresh[0], resets, read, read_step, n + 1,
                rows, exists, ends, starts, B, wide, dtype, WIDTH, REVERSE,
            )  # fmt: skip
            if WAITS:
                cooperative.arrive(counter)
        tl.store(results[0] + at[:, None] * WIDTH + wide, h, active_wide)
        previous = further
        further = ()
        for i in tl.static_range(1, len(state)):
            part = apply_zoneout(
                previous[i - 1], new[i], zone[i], zone_step[i], t, rows, H, units, active_units,
                dtype,
            )  # fmt: skip
            if results[i] is not None:
                tl.store(results[i] + at[:, None] * H + units, part, active_units)
            further = further + (part,)
        if saved is not None:
            pointer = saved + at[:, None] * SAVED_WIDTH
            for number in tl.static_range(len(step_saved)):
                tl.store(pointer + number * H + units, step_saved[number], active_units)
            if BEFORE_ZONEOUT >= 0:
                tl.store(pointer + BEFORE_ZONEOUT * H + units, new_h, active_units)
            if SAVES_AFTER_ZONEOUT:
                for i in tl.static_range(len(further)):
                    tl.store(pointer + SAVED_STATES[i] * H + units, further[i], active_units)
            if UNPROJECTED >= 0:
                tl.store(pointer + UNPROJECTED * H + units, new[0], active_units)
            for number in tl.static_range(len(row_values)):
                tl.store(pointer + BLOCKS * H + number, row_values[number], active[:, None])

    store_parts(state, (h,) + further, rows, WIDTH, H, wide, units, mask_wide, mask)
    if PRODUCT == "external":  # for the caller's next product
        publish(
            h, exchange, fresh[0], resets, read, read_step, past, rows, exists, ends, starts, B,
            wide, dtype, WIDTH, REVERSE,
        )  # fmt: skip
