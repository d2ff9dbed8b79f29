"""Narrow weights: matrices of int8 or bfloat16 numbers, for cells that compute in float32.

An int8 matrix of I columns is stored as `(rows, I + 4)`: each row of numbers is followed by its
scale, four bytes of a float32, as in FBGEMM's row-wise quantization. A weight is its number times
the scale of its row, and the largest number of a row is 127.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from seqcells.compatibility import replace
from seqcells.equations.protocol import Weights

SCALE_BYTES = 4
MOST_COLUMNS = 65536  # sums of this many products of int8 numbers fit into int32
MATRICES = ("weight_ih", "weight_hh", "weight_hr")


def is_narrow(weight: Any, dtype: torch.dtype) -> bool:
    """Return whether a weight is stored narrowly for a computation in this dtype."""
    return weight.dtype is torch.int8 or (weight.dtype is torch.bfloat16 and dtype is torch.float32)


def to_int8(weight: Tensor) -> Tensor:
    """Return a matrix `(rows, I)` as int8 numbers with scales, `(rows, I + 4)`."""
    weight = weight.detach().float()
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    numbers = (weight / scale.clamp_min(torch.finfo(torch.float32).tiny)).round()
    return torch.cat((numbers.clamp(-127, 127).to(torch.int8), scale.view(torch.int8)), dim=1)


def widen(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a matrix in this dtype."""
    if weight.dtype is not torch.int8:
        return weight.to(dtype)
    numbers, scale = weight[:, :-SCALE_BYTES], weight[:, -SCALE_BYTES:]
    return (numbers.float() * scale.contiguous().view(torch.float32)).to(dtype)


def widened(weights: Weights, dtype: torch.dtype) -> Weights:
    """Return weights without narrow matrices."""
    if not is_narrow(weights.weight_ih, dtype):
        return weights
    wide = {
        name: widen(weight, dtype)
        for name in MATRICES
        if (weight := getattr(weights, name)) is not None
    }
    return replace(weights, **wide)


def float_like(module: nn.Module, name: str) -> Tensor:
    """Return a tensor of the device and dtype that a module with this weight computes with.

    A quantized weight is a buffer. Its module computes in the dtype of its biases, without them in
    float32.
    """
    weight: Tensor = getattr(module, name)
    if name not in module._buffers:
        return weight
    bias = next(module.parameters(recurse=False), None)
    return weight.new_empty(0, dtype=torch.float32) if bias is None else bias


def columns(weight: Tensor) -> int:
    """Return the number of columns of a matrix."""
    return weight.shape[1] - (SCALE_BYTES if weight.dtype is torch.int8 else 0)
