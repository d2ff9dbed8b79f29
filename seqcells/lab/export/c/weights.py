"""The weights of a model in C: a struct, its initialiser, and a binary file with the same bytes.

The binary file has a header of 64 bytes, then the struct. All numbers are little-endian::

    0   8 bytes   "seqcells"
    8   uint32    version of this format
    12  uint32    layout: CRC-32 of the names and sizes of the arrays
    16  uint32    CRC-32 of the struct's bytes
    20  44 bytes  zero
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

from seqcells.lab.export.c.elementwise import literal

FORMAT = 1
HEADER = 64
ALIGNMENT = 64  # bytes
PER_LINE = 5
TYPES = {torch.float32: "float", torch.int8: "int8_t", torch.bfloat16: "uint32_t"}

Arrays = Mapping[str, Tensor]


def check_finite(arrays: Arrays) -> None:
    """Raise a ValueError unless all weights are finite in float32."""
    for name, array in arrays.items():
        if not array.isfinite().all():
            raise ValueError(
                f"expected weights that are finite in float32, got others in {name}; train or load "
                "the module again"
            )


def padded_size(array: Tensor) -> int:
    """Return the size of an array in C, a multiple of 64 bytes, so that each one is aligned."""
    count = ALIGNMENT // array.element_size()
    return -(-array.numel() // count) * count


def _elements(array: Tensor) -> int:
    """Return the number of elements in C, where a pair of bfloat16 numbers is one."""
    return padded_size(array) // (2 if array.dtype is torch.bfloat16 else 1)


def members(arrays: Arrays) -> str:
    """Return the members of the struct."""
    return "\n".join(
        f"  {TYPES[array.dtype]} {name}[{_elements(array)}];" for name, array in arrays.items()
    )


def initialiser(arrays: Arrays) -> str:
    """Return the initialiser of the struct. Its numbers are exact."""
    parts = [f"  {{  // {name}\n{_values(array)}\n  }}" for name, array in arrays.items()]
    return "{\n" + ",\n".join(parts) + "\n}"


def _values(array: Tensor) -> str:
    if array.dtype is torch.float32:
        return numbers(array)
    if array.dtype is torch.bfloat16:
        words = array.view(torch.int32).long() & 0xFFFFFFFF
        return _lines([f"{word}u" for word in words.tolist()])
    return _lines([str(number) for number in array.tolist()], 4 * PER_LINE)


def numbers(array: Tensor) -> str:
    """Return the literals of a flat array in float32, several per line."""
    return _lines([literal(number) for number in array.tolist()])


def integers(array: Tensor) -> str:
    """Return the literals of a flat array of integers, several per line."""
    return _lines([str(number) for number in array.tolist()])


def _lines(texts: list[str], count: int = PER_LINE) -> str:
    lines = [", ".join(texts[start : start + count]) for start in range(0, len(texts), count)]
    return "    " + ",\n    ".join(lines)


def layout(arrays: Arrays) -> int:
    """Return a number that changes with the names and sizes of the arrays."""
    return zlib.crc32(members(arrays).encode())


def file_size(arrays: Arrays) -> int:
    """Return the bytes of the binary file."""
    return HEADER + sum(padded_size(array) * array.element_size() for array in arrays.values())


def to_bytes(arrays: Arrays) -> bytes:
    """Return the binary file."""
    data = b"".join(map(_bytes, arrays.values()))
    head = struct.pack("<8sIII", b"seqcells", FORMAT, layout(arrays), zlib.crc32(data))
    return head.ljust(HEADER, b"\0") + data


def _bytes(array: Tensor) -> bytes:
    """Return the bytes of a padded array, little-endian."""
    whole = array.new_zeros(padded_size(array))
    whole[: array.numel()] = array.detach()
    if whole.dtype is torch.bfloat16:
        whole = whole.view(torch.int16)
    numbers = whole.numpy()
    return numbers.astype(numbers.dtype.newbyteorder("<")).tobytes()
