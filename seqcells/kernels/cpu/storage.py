"""Calls whose tensors or weights are stored in fewer bits than native code computes with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seqcells.kernels.call import Call


def in_float32(call: Call) -> Call:
    """Return a call of bfloat16 tensors with all tensors but the matrices in float32."""

    def convert(part: Tensor | None) -> Tensor | None:
        return None if part is None else part.float()

    return call._replace(
        inputs=call.inputs.float(),
        state=[part.float() for part in call.state],
        bias_ih=convert(call.bias_ih),
        bias_hh=convert(call.bias_hh),
        parameters=convert(call.parameters),
        fresh=[part.float() for part in call.fresh],
        read=convert(call.read),
        drop=convert(call.drop),
        zone=[part.float() for part in call.zone],
    )


def in_bfloat16(results: Sequence[Tensor], train: bool) -> list[Tensor]:
    """Return results in bfloat16, except the saved values, which are the last result if `train`."""
    count = len(results) - train
    return [*(part.to(torch.bfloat16) for part in results[:count]), *results[count:]]


def numbers_of(call: Call) -> tuple[int, int]:
    """Return `narrow` and `stored` of a call in float32 or float64: see native/problem.hpp."""
    weights = call.weight_ih.dtype
    if weights is torch.int8:
        return 2, 2
    if weights is torch.bfloat16:
        return 1, 1
    rounds = call.kernel.precision == "bfloat16" and weights is torch.float32
    return int(rounds), 0
