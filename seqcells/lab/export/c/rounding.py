"""Quantized modules in float64: a copy with wide weights, and the rounding of their products."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from seqcells.equations.heads import BLOCKS
from seqcells.kernels.narrow import widen
from seqcells.lab.export.parts import matrices_of
from seqcells.layers import _Layers


def wide_copy(module: nn.Module) -> nn.Module:
    """Return a copy of a module in float64. The weights of a quantized module have its values."""
    wide = copy.deepcopy(module)
    for part, name in list(matrices_of(wide)):
        if (stored := part._buffers.pop(name, None)) is not None:
            part.register_parameter(name, nn.Parameter(widen(stored, torch.float64)))
    for part in wide.modules():
        if isinstance(part, _Layers):
            part._init_flat_weights()
    return wide.double()


class Rounding(TorchFunctionMode):
    """Round the vectors that recurrences multiply, as the kernels for a stored dtype do.

    Attributes:
        margin: the least distance of a number from the middle between two results of the rounding,
            in units of the last place. A calculation in float32 has the same results if its errors
            are smaller.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype, self.margin = dtype, 0.5
        self.linear = {id(part.weight) for part in module.modules() if isinstance(part, nn.Linear)}

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func is F.linear and id(args[1]) not in self.linear:
            args = (self._round(args[0]), *args[1:])
        elif func is torch.einsum and args[0] == BLOCKS:
            args = (BLOCKS, self._round(args[1]), *args[2:])
        return func(*args, **(kwargs or {}))

    def _round(self, rows: Tensor) -> Tensor:
        if self.dtype is torch.int8:
            unit = rows.abs().amax(-1, keepdim=True) / 127
        else:
            _, exponent = torch.frexp(rows)
            unit = torch.ldexp(torch.ones_like(rows), exponent - 8)  # of 8 significant bits
        scaled = torch.where(unit > 0, rows / unit, 0.0)
        distance = (scaled - scaled.floor() - 0.5).abs().amin()
        self.margin = min(self.margin, distance.item())
        return scaled.round() * unit
