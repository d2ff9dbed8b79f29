"""Late products: recurrent weights that multiply a result of the step in place of the hidden state.

A cell lists the gates with such a product in `late_gates`, the last of its gates. Its `activate`
gets the other gates' product with the hidden state in `from_hidden`, and computes the late ones
with its argument `multiply`: `multiply(reset * state, "candidate")`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from seqcells.equations.heads import hidden_product
from seqcells.equations.protocol import Recordable, Weights
from seqcells.noise import Noise, scale_hidden

Multiply = Callable[..., Tensor]


def early_product(
    cell: Recordable, weights: Weights, hidden: Tensor, noise: Noise | None
) -> Tensor:
    """Return `W_hh h + b_hh` of the gates that are not late."""
    gates = len(cell.gates)
    return hidden_rows(weights, range(gates - len(cell.late_gates)), gates, hidden, noise)


def late_product(cell: Recordable, weights: Weights, noise: Noise | None) -> Multiply:
    """Return the function `multiply(operand, *gates)` of a step.

    It returns `W_hh operand + b_hh` of these late gates, side by side.
    """

    def multiply(operand: Tensor, *names: str) -> Tensor:
        rows = late_rows(cell.gates, cell.late_gates, names)
        return hidden_rows(weights, rows, len(cell.gates), operand, noise)

    return multiply


def late_rows(gates: Sequence[str], late: Sequence[str], names: Sequence[Any]) -> list[int]:
    """Return the indices of these gates.

    Raises:
        ValueError: no names, or another name than that of a late gate.
    """
    if not names or any(name not in late for name in names):
        raise ValueError(
            f"multiply: expected names of late gates, of {tuple(late)}, got {names}; write, for "
            f"example, multiply(value, {late[-1]!r})"
        )
    return [gates.index(name) for name in names]


def hidden_rows(
    weights: Weights, rows: Sequence[int], gates: int, operand: Tensor, noise: Noise | None
) -> Tensor:
    """Return the product of the recurrent weights of some gates, given by their rows of `gates`.

    The noise's factor on the hidden state applies to the operand of every product with W_hh.
    """
    weight, bias = weights.weight_hh, weights.bias_hh
    H = weight.shape[0] // gates
    first, past = rows[0], rows[-1] + 1
    if list(rows) == list(range(first, past)):
        weight = weight[first * H : past * H]
        bias = None if bias is None else bias[first * H : past * H]
    else:
        weight = torch.cat([weight[row * H : (row + 1) * H] for row in rows])
        bias = None if bias is None else torch.cat([bias[r * H : (r + 1) * H] for r in rows])
    return hidden_product(scale_hidden(operand, noise), weight, bias)
