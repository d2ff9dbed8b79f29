"""Load the state before a step, and compute the gradient by it."""

import triton
import triton.language as tl

from seqcells.kernels.triton import cooperative
from seqcells.kernels.triton.tiles import load_noise, load_resets, load_units, locate_step


@triton.jit
def reset_gradients(grads, fresh, reset):
    """Move the gradients by the state of rows that restart to the gradients by the fresh state."""
    moved = ()
    sums = ()
    for part in tl.static_range(len(grads)):
        moved = moved + (tl.where(reset, 0.0, grads[part]),)
        sums = sums + (fresh[part] + tl.where(reset, grads[part], 0.0),)
    return moved, sums


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
    added, grads, fresh, resets, read, read_step, t, rows, active, B, wide, dtype: tl.constexpr,
    WIDTH: tl.constexpr,
):  # fmt: skip
    """Add `W^T dz` to the gradient by the hidden state before a step, then apply its resets."""
    if read is not None:
        mask = active[:, None] & (wide < WIDTH)
        added *= load_noise(read, read_step, t, rows, WIDTH, wide, mask, dtype)
    grads = (grads[0] + added,) + grads[1:]
    if resets is not None:
        reset = load_resets(resets, t, rows, active, B)[:, None]
        grads, fresh = reset_gradients(grads, fresh, reset)
    return grads, fresh


@triton.jit
def finish_previous_step(
    n, arrivals, grads, fresh, exchange, counter, weight, tiles, low_tiles, resets, read, read_step,
    rows, ends, starts, B, wide, dtype: tl.constexpr, GATES: tl.constexpr, H: tl.constexpr,
    WIDTH: tl.constexpr, WHOLE: tl.constexpr, PARTS: tl.constexpr, CHUNK: tl.constexpr,
    PRECISION: tl.constexpr, REVERSE: tl.constexpr, WAITS: tl.constexpr,
):  # fmt: skip
    """Return the gradients by the state before step n and by the fresh state.

    Waits for `arrivals` of each program of the same rows, which have then published their `dz`.
    """
    active, t, at = locate_step(n, rows, ends, starts, B, REVERSE)
    if WAITS:
        cooperative.wait(counter, arrivals * tl.num_programs(1))
    buffer = exchange + (n % 2) * B * GATES * H
    added = cooperative.transposed_products(
        buffer, rows, active, weight, tiles, low_tiles, wide, dtype, GATES, H, WHOLE, PARTS, CHUNK,
        PRECISION,
    )  # fmt: skip
    return add_recurrent_gradient(
        added, grads, fresh, resets, read, read_step, t, rows, active, B, wide, dtype, WIDTH
    )  # fmt: skip
