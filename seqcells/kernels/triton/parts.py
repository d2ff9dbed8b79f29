"""Load and store the parts of a state, and apply resets and zoneout to them.

The first part is the hidden state, of another size than the others if it is projected.
"""

import triton
import triton.language as tl

from seqcells.kernels.triton.tiles import load_noise, load_units


@triton.jit
def load_parts(data, rows, width, others, wide, units, mask_wide, mask, dtype: tl.constexpr):
    """Load the parts of a state: the hidden state of size `width`, then those of size `others`."""
    parts = (load_units(data[0], rows, width, wide, mask_wide, dtype),)
    for i in tl.static_range(1, len(data)):
        parts = parts + (load_units(data[i], rows, others, units, mask, dtype),)
    return parts


@triton.jit
def store_parts(data, parts, rows, width, others, wide, units, mask_wide, mask):
    """Store the parts of a state, as `load_parts` loads them."""
    tl.store(data[0] + rows[:, None] * width + wide, parts[0], mask_wide)
    for i in tl.static_range(1, len(data)):
        tl.store(data[i] + rows[:, None] * others + units, parts[i], mask)


@triton.jit
def apply_reset(part, fresh, reset, rows, width, units, mask, dtype: tl.constexpr):
    """Return a part of the state with the rows that restart replaced by the fresh state."""
    return tl.where(reset[:, None], load_units(fresh, rows, width, units, mask, dtype), part)


@triton.jit
def apply_resets(parts, fresh, reset, rows, width, units, mask, dtype: tl.constexpr):
    """Return parts of the state with the rows that restart replaced by the fresh state."""
    results = ()
    for i in tl.static_range(len(parts)):
        part = apply_reset(parts[i], fresh[i], reset, rows, width, units, mask, dtype)
        results = results + (part,)
    return results


@triton.jit
def apply_zoneout(old, new, share, step, t, rows, width, units, mask, dtype: tl.constexpr):
    """Return a part of the new state, with zoneout's share of the old one."""
    part = new
    if share is not None:
        stays = load_noise(share, step, t, rows, width, units, mask, dtype)
        part = stays * old + (1.0 - stays) * new
    return tl.where(mask, part, old)
