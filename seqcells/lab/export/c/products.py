"""Matrix products: their weights in the order of reading, and their statements in C."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from seqcells.kernels.narrow import SCALE_BYTES

DEPTH = {torch.float32: 1, torch.bfloat16: 2, torch.int8: 4}  # columns per word
Arrays = dict[str, Tensor]


class Product(NamedTuple):
    """A matrix product: `target[start:start + rows] += array @ vector`.

    A matrix of several heads has one block of `columns` rows per gate and head, in this order. Each
    block multiplies the `columns` numbers of its head.
    """

    array: str
    start: int
    rows: int
    columns: int
    block: int  # rows per block, except in the last one
    dtype: torch.dtype = torch.float32  # of the weights; int8 ones have an array of scales
    heads: int = 1  # several only in int8


def block_of(rows: int, most: int) -> int:
    """Return the rows per block: blocks of similar sizes, in multiples of 8."""
    count = -(-rows // most)
    return min(most, -(-rows // (8 * count)) * 8) if count > 1 else rows


def pack(matrix: Tensor, block: int) -> Tensor:
    """Return blocks of rows in order, each stored column after column.

    int8 and bfloat16 numbers are stored in words: those of four or two columns, padded with zeros.
    """
    depth = DEPTH[matrix.dtype]
    matrix = nn.functional.pad(matrix, (0, -matrix.shape[1] % depth))
    groups = [part.unflatten(1, (-1, depth)).transpose(0, 1) for part in matrix.split(block)]
    return torch.cat([part.flatten() for part in groups])


def matrix_product(
    name: str, start: int, matrix: Tensor, arrays: Arrays, block: int, heads: int = 1
) -> Product:
    """Add a matrix `(rows, columns)` to the arrays, and return its product.

    An int8 matrix is stored with its scales, as in `kernels.narrow`.
    """
    scales = None
    if matrix.dtype is torch.int8:
        scales = matrix[:, -SCALE_BYTES:].contiguous().view(torch.float32).flatten()
        matrix = matrix[:, :-SCALE_BYTES]
    elif matrix.dtype is not torch.bfloat16:
        matrix = matrix.float()
    rows, columns = matrix.shape
    if heads > 1:  # blocks of rows must not cross heads, whose sizes are multiples of 8
        size = max(size for size in range(8, block + 1, 8) if columns % size == 0)
    else:
        size = block_of(rows, block)
    product = Product(name, start, rows, columns, size, matrix.dtype, heads)
    arrays[name] = pack(matrix, product.block)
    if scales is not None:
        arrays[f"{name}_scales"] = scales
    return product


def product_of(weight: Tensor, name: str, arrays: Arrays, block: int) -> Product:
    """Add a matrix to the arrays, and return its product."""
    return matrix_product(name, 0, weight.float(), arrays, block)


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
    if product.dtype is torch.float32:
        return _calls(product, "add", target, vector, product.columns)
    if product.heads > 1:
        return _multiply_heads(product, target, vector)
    size = product.columns
    padded = size + -size % DEPTH[product.dtype]
    rounded = f"(numbers, {vector}, {size}, {padded});"
    if product.dtype is torch.bfloat16:
        lines = [f"float numbers[{padded}];", f"@_to_bfloat16{rounded}"]
        lines += _calls(product, "add_bfloat16", target, "numbers", padded)
    else:
        lines = [f"int8_t numbers[{padded}];", f"const float scale = @_to_int8{rounded}"]
        lines += _calls(product, "add_int8", target, "numbers, scale", padded)
    return ["{", *(f"  {line}" for line in lines), "}"]


def _multiply_heads(product: Product, target: str, vector: str) -> list[str]:
    """Return the statements that round the numbers of each head to int8 and add its blocks."""
    array, size, heads, block = product.array, product.columns, product.heads, product.block
    gates = product.rows // (size * heads)
    at = f"{target} + {product.start} + row" if product.start else f"{target} + row"
    weights = f"weights->{array} + row * {size}, weights->{array}_scales + row"
    call = f"@_add_int8_{block}({at}, {weights}, numbers, scale, {size});"
    first = f"int row = (gate * {heads} + head) * {size}"
    rows = [f"const {first};", call]
    if block < size:
        loop = f"for ({first}, last = row + {size}; row < last; row += {block})"
        rows = [loop, f"  {call}"]
    return [
        f"for (int head = 0; head < {heads}; ++head) {{",
        f"  int8_t numbers[{size}];",
        f"  const float scale = @_to_int8(numbers, {vector} + head * {size}, {size}, {size});",
        f"  for (int gate = 0; gate < {gates}; ++gate) {{",
        *(f"    {line}" for line in rows),
        "  }",
        "}",
    ]


def _calls(product: Product, name: str, target: str, vector: str, columns: int) -> list[str]:
    full, rest = divmod(product.rows, product.block)
    block = product.block

    # Pairs of bfloat16 numbers are one element in C.
    step = block * columns // (2 if product.dtype is torch.bfloat16 else 1)

    def call(rows: int, at: str, first: str, skipped: str) -> str:
        weights = f"weights->{product.array}{skipped}"
        if product.dtype is torch.int8:
            weights += f", weights->{product.array}_scales{first}"
        return f"@_{name}_{rows}({at}, {weights}, {vector}, {columns});"

    at = f"{target} + {product.start}" if product.start else target
    lines = []
    if full == 1:
        lines.append(call(block, at, "", ""))
    elif full:
        row = f" + n * {block}"
        lines += [
            f"for (int n = 0; n < {full}; ++n)",
            f"  {call(block, at + row, row, f' + n * {step}')}",
        ]
    if rest:
        done = full * block
        skipped = f" + {full * step}" if done else ""
        first = f" + {done}" if done else ""
        at = f"{target} + {product.start + done}"
        lines.append(call(rest, at, first, skipped))
    return lines
