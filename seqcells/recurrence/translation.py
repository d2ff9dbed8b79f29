"""Translation of a request into the call of a kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqcells.compatibility import replace
from seqcells.equations.catalogue import Kernel
from seqcells.equations.heads import full_matrix
from seqcells.equations.protocol import Weights, factor_of
from seqcells.equations.recording import kernel_weights
from seqcells.kernels.call import Call
from seqcells.kernels.narrow import columns
from seqcells.noise import Noise
from seqcells.recurrence.request import Request
from seqcells.state import flat_state


def call_of(request: Request, kernel: Kernel) -> tuple[Call, str]:
    """Return the request as a call, and the name of a noise that the kernel does not support."""
    weights, inputs = request.weights, request.inputs
    if not kernel.weights_unchanged:
        weights = kernel_weights(kernel, request.cell, weights, inputs.dtype)
    state, fresh = flat_state(request.state), flat_state(request.fresh)
    if request.batch_sizes is None:
        rows = inputs.shape[-2]
        state, fresh = _for_rows(state, rows), _for_rows(fresh, rows)
    weight, units = weights.weight_hh, state[0].shape[1]
    if weight is not None and weight.shape[1] != units:
        weights = _whole_heads(weights, inputs, units, request.cell.heads)
    read, drop, zone, unsupported = _factors(request.cell, request.noise, kernel)
    cells = request.all_states and len(state) > 1
    steps = request.lengths, request.batch_sizes, request.resets, request.reverse, cells
    parts: list[Any] = [*weights, fresh, read, drop, zone, *steps]
    return Call(kernel, inputs, state, *parts), unsupported


def _whole_heads(weights: Weights, inputs: Tensor, units: int, heads: int) -> Weights:
    """Return weights whose heads kernels support: on the CPU, of whole blocks of 16 units."""
    weight = weights.weight_hh
    if columns(weight) * heads != units:
        raise ValueError(
            f"weight_hh: expected {units // heads} columns, got {columns(weight)}; load a state "
            "dict of the same sizes"
        )
    if weight.dtype is torch.int8:  # with scales; quantize() refuses heads of other sizes
        return weights
    if inputs.is_cpu and columns(weight) % 16 == 0:
        return weights
    return replace(weights, weight_hh=full_matrix(weight, units))


def _for_rows(parts: list[Tensor], rows: int) -> list[Tensor]:
    """Return the parts of a state, expanded to all rows if there is one row."""
    return [part if part.shape[0] == rows else part.expand(rows, -1) for part in parts]


def _factors(
    cell: Any, noise: Noise | None, kernel: Kernel
) -> tuple[Tensor | None, Tensor | None, list[Tensor], str]:
    """Return a call's noise, and the name of a part that the kernel does not support."""
    if noise is None:
        return None, None, [], ""
    factors = {"hidden": noise.hidden, "candidate": noise.candidate}
    read = factors.pop("hidden") if kernel.hidden else None
    drop = factors.pop(factor_of(cell)) if kernel.takes_drop else None
    unsupported = [name for name, factor in factors.items() if factor is not None]
    return read, drop, flat_state(noise.zone), unsupported[0] if unsupported else ""
