"""Conversion to and from one weight matrix per gate on the concatenation `[hidden, input]`."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor

from seqcells.cells.base import GatedCell
from seqcells.equations.heads import full_matrix

CellT = TypeVar("CellT", bound=GatedCell)


def concatenated(cell: GatedCell) -> tuple[list[Tensor], list[Tensor]]:
    """Return each gate's matrix on `[hidden, input]` and the sum of its biases, in gate order."""
    weights = cell.weights()
    recurrent = full_matrix(weights.weight_hh, cell.hidden_size)
    matrix = torch.cat((recurrent, weights.weight_ih), dim=1).detach()
    bias = matrix.new_zeros(len(matrix))
    if weights.bias_ih is not None and weights.bias_hh is not None:
        bias = (weights.bias_ih + weights.bias_hh).detach()
    return list(matrix.chunk(len(cell.gates))), list(bias.chunk(len(cell.gates)))


def from_gates(
    kind: type[CellT], matrices: list[Tensor], biases: list[Tensor], **options: Any
) -> CellT:
    """Build a cell from the results of `concatenated`; `bias_hh` is zero.

    Raises:
        ValueError: inconsistent shapes.
    """
    hidden_size, columns = len(matrices[0]), matrices[0].shape[-1]
    for matrix, bias in zip(matrices, biases):
        if matrix.shape != (hidden_size, columns) or bias.numel() != hidden_size:
            raise ValueError(
                "expected per gate a matrix (H, H + I) and a bias (H,), "
                f"got {[tuple(part.shape) for part in (*matrices, *biases)]}"
            )
    matrix, bias = torch.cat(matrices), torch.cat([part.reshape(-1) for part in biases])
    sizes = columns - hidden_size, hidden_size
    cell = kind(*sizes, device=matrix.device, dtype=matrix.dtype, **options)
    weight_hh, weight_ih = matrix[:, :hidden_size], matrix[:, hidden_size:]
    state_dict = {"weight_ih": weight_ih, "weight_hh": weight_hh, "bias_ih": bias}
    cell.load_state_dict(state_dict | {"bias_hh": torch.zeros_like(bias)})
    return cell
