"""Recurrent matrices of several heads: blocks that multiply only their own units.

With K heads of `D = H / K` units, `weight_hh` is `(G*H, D)`: row u of a gate reads the D hidden
values of the head of unit u. One head is the full matrix `(G*H, H)`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCKS = "...kd,gkud->...gku"  # the product of hidden values and a weight of several heads


def hidden_product(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return `W_hh h + b_hh` for hidden values `(B, H)` and a weight of one or more heads."""
    units, size = hidden.shape[-1], weight.shape[1]
    if size == units:
        return F.linear(hidden, weight, bias)
    blocks = weight.reshape(-1, units // size, size, size)  # (G, K, D, D)
    own = hidden.reshape(*hidden.shape[:-1], units // size, size)
    product = torch.einsum(BLOCKS, own, blocks).flatten(-3)
    return product if bias is None else product + bias


def full_matrix(weight: Tensor, units: int) -> Tensor:
    """Return the matrix `(G*H, H)` of a weight of one or more heads, with zeros between heads."""
    size = weight.shape[1]
    heads = units // size
    if heads == 1:
        return weight
    blocks = weight.reshape(-1, heads, size, 1, size)
    own = torch.eye(heads, dtype=weight.dtype, device=weight.device).reshape(heads, 1, heads, 1)
    return (blocks * own).reshape(-1, units)
