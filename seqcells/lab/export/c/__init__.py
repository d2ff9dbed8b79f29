"""Export to plain C: a recurrent module, optionally with a linear head, without dependencies."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seqcells import Recurrent, Stack, __version__, backend
from seqcells.lab.export.c.header import header
from seqcells.lab.export.c.layers import Product, block_of, layers_of, pack
from seqcells.lab.export.c.self_test import self_test
from seqcells.lab.export.c.source import Model, source
from seqcells.lab.export.c.weights import check_finite, to_bytes
from seqcells.lab.files import unwritable, write_atomically
from seqcells.streams.single_steps import single_steps

STEPS = 16  # of the recorded sequence


def write_c(
    module: nn.Module,
    folder: str | Path,
    name: str = "model",
    *,
    head: nn.Linear | None = None,
    embed_weights: bool = True,
    block: int = 64,
) -> list[Path]:
    """Write a recurrent module as C99 that runs one step at a time: `NAME.c` and `NAME.h`.

    `NAME_test.c` is a program that compares the C code with outputs of the module. The code
    computes in float32, in evaluation mode, for one stream::

        write_c(LSTM(8, 16).eval(), "firmware", "gesture", head=torch.nn.Linear(16, 4))
        # gcc -O3 -march=native gesture.c gesture_test.c -lm -o gesture_test && ./gesture_test

    Args:
        module: a cell, with or without modifiers, a forward `Recurrent`, a `Stack` of cells, or an
            `RNN`, `GRU` or `LSTM` of any number of layers, on the CPU.
        folder: the folder of the files. It is created if it is missing.
        name: the prefix of the files and of all names in C, a C identifier.
        head: a linear layer that reads the outputs of each step.
        embed_weights: write the weights into the source; otherwise into `NAME.bin`, which the
            program maps or reads and passes to `NAME_open`.
        block: rows of a matrix that are summed at once. 64 suits vector units; 16 suits processors
            without vector units, such as the Cortex-M4.

    Returns:
        The paths of the files.

    Raises:
        TypeError: another module or head.
        ValueError: a module that does not run one step at a time, a head of another size, weights
            that are not finite, or a name that is not a C identifier.
        OSError: a file cannot be written.
    """
    _check(name, head, block)
    steps = single_steps(module, 1)
    layers = layers_of(module, steps.calls, steps.residual, block)
    arrays: dict[str, Tensor] = {}
    for layer in layers:
        arrays |= layer.arrays
    product = None if head is None else _head(head, layers[-1].width, arrays, block)
    check_finite(arrays)
    model = Model(name, layers, product, arrays, embed_weights)
    title = f"Written by seqcells {__version__}: write_c(), {_describe(module, head)}"
    inputs, outputs = _record(module, head, layers[0].inputs)
    files = {
        f"{name}.h": header(model, title).encode(),
        f"{name}.c": source(model, title).encode(),
        f"{name}_test.c": self_test(model, title, inputs, outputs).encode(),
    }
    if not embed_weights:
        files[f"{name}.bin"] = to_bytes(arrays)
    return _write(Path(folder), files)


def _check(name: str, head: Any, block: int) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(
            f"name: expected a C identifier that starts with a letter, got {name!r}; use letters, "
            "digits and _"
        )
    if head is not None and not isinstance(head, nn.Linear):
        raise TypeError(f"head: expected torch.nn.Linear or None, got {type(head).__name__}")
    if isinstance(block, bool) or not isinstance(block, int) or block < 8 or block % 8:
        raise ValueError(f"block: expected a positive multiple of 8, got {block!r}")


def _describe(module: nn.Module, head: nn.Linear | None) -> str:
    return type(module).__name__ + ("" if head is None else " with a linear head")


@torch.no_grad()
def _head(head: nn.Linear, width: int, arrays: dict[str, Tensor], block: int) -> Product:
    """Add the weights of the head, and return its product."""
    weight = head.weight
    if weight.shape[1] != width:
        raise ValueError(
            f"head: expected {width} input features, the module's outputs, got {weight.shape[1]}"
        )
    product = Product("head_weight", 0, *weight.shape, block_of(len(weight), block))
    bias = weight.new_zeros(len(weight)) if head.bias is None else head.bias
    arrays["head_bias"] = bias.float()
    arrays["head_weight"] = pack(weight.float(), product.block)
    return product


@torch.no_grad()
def _record(module: nn.Module, head: nn.Linear | None, size: int) -> tuple[Tensor, Tensor]:
    """Return inputs `(T, I)` and outputs `(T, O)` of the module in float64."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(STEPS, size, generator=generator)
    exact = copy.deepcopy(module).double()
    if not isinstance(exact, (Recurrent, Stack, nn.RNNBase)):
        exact = Recurrent(exact)
    sequence = inputs.double().unsqueeze(0 if exact.batch_first else 1)
    with backend("reference"):
        outputs = exact(sequence)[0].reshape(STEPS, -1)
    if head is not None:
        outputs = nn.functional.linear(
            outputs, head.weight.double(), None if head.bias is None else head.bias.double()
        )
    return inputs, outputs


def _write(folder: Path, files: dict[str, bytes]) -> list[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    paths = [folder / name for name in files]
    for path, data in zip(paths, files.values()):
        write_atomically(path, lambda file, data=data: file.write(data))
    return paths


__all__ = ["write_c"]
