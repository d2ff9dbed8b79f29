"""Matrix products: their weights in the order of reading, and their statements in C."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

Arrays = dict[str, Tensor]


class Product(NamedTuple):
    """A matrix product: `target[start:start + rows] += array @ vector`."""

    array: str
    start: int
    rows: int
    columns: int
    block: int  # rows per block, except in the last one


def block_of(rows: int, most: int) -> int:
    """Return the rows per block: blocks of similar sizes, in multiples of 8."""
    count = -(-rows // most)
    return min(most, -(-rows // (8 * count)) * 8) if count > 1 else rows


def pack(matrix: Tensor, block: int) -> Tensor:
    """Return blocks of rows in order, each stored column after column."""
    return torch.cat([part.T.flatten() for part in matrix.split(block)])


def product_of(weight: Tensor, name: str, arrays: Arrays, block: int) -> Product:
    """Add a matrix to the arrays, and return its product."""
    product = Product(name, 0, *weight.shape, block_of(len(weight), block))
    arrays[name] = pack(weight.float(), product.block)
    return product


def linear_of(linear: nn.Linear, name: str, arrays: Arrays, block: int) -> Product:
    """Add the weight and the bias of a linear layer to the arrays, and return its product."""
    bias = linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias
    arrays[f"{name}_bias"] = bias.float()
    return product_of(linear.weight, f"{name}_weight", arrays, block)


def block_widths(product: Product) -> list[int]:
    """Return the distinct numbers of rows in the blocks of a product."""
    full, rest = divmod(product.rows, product.block)
    return [product.block] * (full > 0) + [rest] * (rest > 0)


def multiply_add(product: Product, target: str, vector: str) -> list[str]:
    """Return the statements that add a product to a vector."""
    full, rest = divmod(product.rows, product.block)
    block, columns = product.block, product.columns
    at = f"{target} + {product.start}" if product.start else target
    lines = []
    if full == 1:
        lines.append(f"@_add_{block}({at}, weights->{product.array}, {vector}, {columns});")
    elif full:
        call = f"weights->{product.array} + n * {block * columns}"
        lines += [
            f"for (int n = 0; n < {full}; ++n)",
            f"  @_add_{block}({at} + n * {block}, {call}, {vector}, {columns});",
        ]
    if rest:
        at, skipped = f"{target} + {product.start + full * block}", full * block * columns
        call = f"weights->{product.array} + {skipped}"
        lines.append(f"@_add_{rest}({at}, {call}, {vector}, {columns});")
    return lines
