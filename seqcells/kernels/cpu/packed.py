"""Packed int8 weights, kept between calls.

A call packs its weights into panels. Float weights change during training. Those of a quantized
module do not, so their panels are kept as long as the weights. Native code compares a checksum of
the weights in every call, and packs them again after a change.
"""

from __future__ import annotations

import weakref

import torch
from torch import Tensor

from seqcells.kernels.cpu import library
from seqcells.kernels.cpu.library import Problem

# By the kernel, the instruction set and the identities of the matrices.
Key = tuple[str, int, int, int, int]
PANELS: dict[Key, tuple[list[torch.Size], Tensor]] = {}


def attach(
    problem: Problem,
    kernel: str,
    weight_ih: Tensor,
    weight_hh: Tensor | None,
    weight_hr: Tensor | None = None,
) -> None:
    """Set `problem.packed` to the memory for these weights, which is zero at first.

    The memory lives as long as `weight_ih`.
    """
    key: Key = kernel, library.variant, id(weight_ih), id(weight_hh), id(weight_hr)
    shapes = [weight.shape for weight in (weight_ih, weight_hh, weight_hr) if weight is not None]
    known, panels = PANELS.get(key, (None, None))
    if panels is None or known != shapes:  # an identity may be reused
        panels = torch.zeros(library.packed_size(problem), dtype=torch.uint8)
        PANELS[key] = shapes, panels
        weakref.finalize(weight_ih, PANELS.pop, key, None)
    problem.packed = panels.data_ptr()
