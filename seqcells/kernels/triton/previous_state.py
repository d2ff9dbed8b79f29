"""Load the state before a step, and compute the gradient by it."""

import triton
import triton.language as tl

from seqcells.kernels.triton import cooperative
from seqcells.kernels.triton.tiles import load_noise, load_resets, load_units, locate_step


@triton.jit
def reset_gradient(grad, fresh, reset):
    """Move the gradient by the state of rows that restart to the gradient by the fresh state."""
    return tl.where(reset, 0.0, grad), fresh + tl.where(reset, grad, 0.0)


@triton.jit
def load_previous(
    data, stride, at, initial, fresh, rows, from_previous, from_initial, reset, width, units,
    dtype: tl.constexpr,
):  # fmt: skip
    """Load a part of the state before the step: of the previous step, initial, or fresh."""
    exists = units < width
    part = load_units(data, at, stride, units, from_previous[:, None] & exists, dtype)
    part += load_units(initial, rows, width, units, from_initial[:, None] & exists, dtype)
    if fresh is not None:
        part += load_units(fresh, rows, width, units, reset[:, None] & exists, dtype)
    return part


@triton.jit
def split_zoneout(
    grad, upstream, at, share, step, t, rows, width, units, mask, dtype: tl.constexpr
):  # fmt: skip
    """Add the upstream gradient; return the gradients by the new and the old state of zoneout."""
    new, old = grad, tl.zeros(grad.shape, dtype)
    if upstream is not None:
        new += load_units(upstream, at, width, units, mask, dtype)
    if share is not None:
        old = new * load_noise(share, step, t, rows, width, units, mask, dtype)
        new -= old
    return new, old


@triton.jit
def add_recurrent_gradient(
    added, dh, dc, fresh_h, fresh_c, resets, read, read_step, t, rows, active, B, wide,
    dtype: tl.constexpr, STATES: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Add `W^T dz` to the gradients by the state before a step, then apply the step's resets."""
    if read is not None:
        mask = active[:, None] & (wide < WIDTH)
        added *= load_noise(read, read_step, t, rows, WIDTH, wide, mask, dtype)
    dh += added
    if resets is not None:
        reset = load_resets(resets, t, rows, active, B)[:, None]
        dh, fresh_h = reset_gradient(dh, fresh_h, reset)
        if STATES > 1:
            dc, fresh_c = reset_gradient(dc, fresh_c, reset)
    return dh, dc, fresh_h, fresh_c


@triton.jit
def finish_previous_step(
    n, arrivals, dh, dc, fresh_h, fresh_c, exchange, counter, weight, tiles, low_tiles, resets,
    read, read_step, rows, ends, starts, B, wide, dtype: tl.constexpr, GATES: tl.constexpr,
    STATES: tl.constexpr, H: tl.constexpr, WIDTH: tl.constexpr, WHOLE: tl.constexpr,
    PARTS: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr, REVERSE: tl.constexpr,
    WAITS: tl.constexpr,
):  # fmt: skip
    """Return the gradients by the state before step n, after `arrivals` of each program."""
    active, t, at = locate_step(n, rows, ends, starts, B, REVERSE)
    if WAITS:
        cooperative.wait(counter, arrivals * tl.num_programs(1))
    buffer = exchange + (n % 2) * B * GATES * H
    added = cooperative.transposed_products(
        buffer, rows, active, weight, tiles, low_tiles, wide, dtype, GATES, H, WHOLE, PARTS, CHUNK,
        PRECISION,
    )  # fmt: skip
    return add_recurrent_gradient(
        added, dh, dc, fresh_h, fresh_c, resets, read, read_step, t, rows, active, B, wide, dtype,
        STATES, WIDTH,
    )  # fmt: skip
