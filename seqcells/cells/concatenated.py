"""The other common layout of fused weights: one matrix per gate on `[hidden, input]`."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor

from seqcells.cells.base import GatedCell

CellT = TypeVar("CellT", bound=GatedCell)


def concatenated(cell: GatedCell) -> tuple[list[Tensor], list[Tensor]]:
    """Return each gate's matrix on `[hidden, input]` and its one bias, in the gates' order."""
    weights = cell.weights()
    matrix = torch.cat((weights.weight_hh, weights.weight_ih), dim=1).detach()
    bias = matrix.new_zeros(len(matrix))
    if weights.bias_ih is not None and weights.bias_hh is not None:
        bias = (weights.bias_ih + weights.bias_hh).detach()
    return list(matrix.chunk(len(cell.gates))), list(bias.chunk(len(cell.gates)))


def from_gates(
    kind: type[CellT], matrices: list[Tensor], biases: list[Tensor], **options: Any
) -> CellT:
    """Return the cell that `concatenated` took apart: biases in `bias_ih`, `bias_hh` zero.

    Raises:
        ValueError: shapes that do not fit.
    """
    hidden_size, columns = len(matrices[0]), matrices[0].shape[-1]
    for matrix, bias in zip(matrices, biases):
        if matrix.shape != (hidden_size, columns) or bias.numel() != hidden_size:
            raise ValueError(
                "expected for each gate a matrix of H rows on H + I columns and H biases, "
                f"got {[tuple(part.shape) for part in (*matrices, *biases)]}"
            )
    matrix, bias = torch.cat(matrices), torch.cat([part.reshape(-1) for part in biases])
    sizes = columns - hidden_size, hidden_size
    cell = kind(*sizes, device=matrix.device, dtype=matrix.dtype, **options)
    hidden, inward = matrix[:, :hidden_size], matrix[:, hidden_size:]
    own = {"weight_ih": inward, "weight_hh": hidden, "bias_ih": bias}
    cell.load_state_dict(own | {"bias_hh": torch.zeros_like(bias)})
    return cell
