"""The state before a step, and the gradient by it."""

import triton
import triton.language as tl

from seqcells.kernels.triton import slices
from seqcells.kernels.triton.tiles import loaded, noise_at, place, restarts


@triton.jit
def restart(grad, fresh, again):
    """A gradient by the state as the step found it, which a restart sends to the fresh state."""
    return tl.where(again, 0.0, grad), fresh + tl.where(again, grad, 0.0)


@triton.jit
def found(
    data, stride, at, initial, fresh, rows, follows, begins, again, width, units,
    like: tl.constexpr,
):  # fmt: skip
    """A part of the state before the step: in the step before it, the first, or the fresh one."""
    there = units < width
    part = loaded(data, at, stride, units, follows[:, None] & there, like)
    part += loaded(initial, rows, width, units, begins[:, None] & there, like)
    if fresh is not None:
        part += loaded(fresh, rows, width, units, again[:, None] & there, like)
    return part


@triton.jit
def divided(grad, upstream, at, share, step, t, rows, width, units, mask, like: tl.constexpr):
    """The gradient by a part of the state as it was made, and by what stayed of the old one."""
    made, stays = grad, tl.zeros(grad.shape, like)
    if upstream is not None:
        made += loaded(upstream, at, width, units, mask, like)
    if share is not None:
        stays = made * noise_at(share, step, t, rows, width, units, mask, like)
        made -= stays
    return made, stays


@triton.jit
def joined(
    added, dh, dc, fresh_h, fresh_c, resets, read, read_step, t, rows, taken, B, wide,
    like: tl.constexpr, STATES: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """The gradients by the state before a step, its product `W^T dz` added; then its restart."""
    if read is not None:
        mask = taken[:, None] & (wide < WIDTH)
        added *= noise_at(read, read_step, t, rows, WIDTH, wide, mask, like)
    dh += added
    if resets is not None:
        again = restarts(resets, t, rows, taken, B)[:, None]
        dh, fresh_h = restart(dh, fresh_h, again)
        if STATES > 1:
            dc, fresh_c = restart(dc, fresh_c, again)
    return dh, dc, fresh_h, fresh_c


@triton.jit
def finished(
    n, arrivals, dh, dc, fresh_h, fresh_c, exchange, counter, weight, tiles, lows, resets,
    read, read_step, rows, ends, starts, B, wide, like: tl.constexpr, GATES: tl.constexpr,
    STATES: tl.constexpr, H: tl.constexpr, WIDTH: tl.constexpr, WHOLE: tl.constexpr,
    PARTS: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr, REVERSE: tl.constexpr,
    WAITS: tl.constexpr,
):  # fmt: skip
    """The gradients by the state before step n, after so many `arrivals` of each program."""
    taken, t, at = place(n, rows, ends, starts, B, REVERSE)
    if WAITS:
        slices.wait(counter, arrivals * tl.num_programs(1))
    told = exchange + (n % 2) * B * GATES * H
    added = slices.products_back(
        told, rows, taken, weight, tiles, lows, wide, like, GATES, H, WHOLE, PARTS, CHUNK, PRECISION
    )
    return joined(
        added, dh, dc, fresh_h, fresh_c, resets, read, read_step, t, rows, taken, B, wide, like,
        STATES, WIDTH,
    )  # fmt: skip
