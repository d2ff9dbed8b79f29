"""`quantize`: int8 or bfloat16 weights for inference."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from seqcells.cells.base import GatedCell
from seqcells.kernels.narrow import MATRICES, MOST_COLUMNS, to_int8
from seqcells.layers import _Layers
from seqcells.modifiers.base import has_standard_forward
from seqcells.recurrence.choice import kernel_of_cell

Module = TypeVar("Module", bound=nn.Module)
DTYPES = (torch.int8, torch.bfloat16)


def quantize(module: Module, dtype: torch.dtype = torch.int8) -> Module:
    """Return a copy for inference whose recurrences hold their matrices in int8 or bfloat16.

    It applies to every `RNN`, `GRU`, `LSTM` and gated cell in the module, in `Recurrent`, `Stack`
    and modifiers too. All other parameters, embeddings and linear layers among them, are copied.
    Parametrizations of recurrences are replaced by their values::

        small = seqcells.quantize(model)
        with torch.no_grad():
            outputs, state = small(inputs)

    - `torch.int8`: each row of a matrix is stored as int8 numbers and a float32 scale, a quarter of
      the memory. Each row of inputs and hidden states is rounded to int8 with its own scale
      before a product, and products are summed in int32.
    - `torch.bfloat16`: half the memory. Inputs and hidden states are rounded to bfloat16 before
      a product, and products are summed in float32.

    Inputs, biases, state and gates stay in float32. The copy is in evaluation mode, on the CPU, and
    no parameter requires a gradient. It accepts the same arguments, `Stepper` accepts it, and it
    can be copied, pickled and saved: an int8 matrix `(rows, I)` is a buffer `(rows, I + 4)` of the
    same name, with the four bytes of its scale after each row. Without the C++ kernels, the
    readable loop runs with the rounded weights.

    Args:
        module: any module that contains recurrences of seqcells, in float32.
        dtype: `torch.int8` or `torch.bfloat16`.

    Raises:
        TypeError: not a module, or without a recurrence of seqcells.
        ValueError: another dtype, weights that are quantized, not parameters, not float32, not on
            the CPU or not finite, a cell without a kernel, or more than 65,536 inputs.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype: expected torch.int8 or torch.bfloat16, got {dtype}")
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: expected a module, got {type(module).__name__}")
    copied = copy.deepcopy(module).eval()
    parts = [part for part in copied.modules() if isinstance(part, (_Layers, GatedCell))]
    if not parts:
        raise TypeError(
            f"module: expected recurrences of seqcells, got {type(module).__name__} without one; "
            "use layers or gated cells of seqcells"
        )
    stored: dict[Tensor, Tensor] = {}
    for part in parts:
        _quantize_part(part, dtype, stored)
    return copied.requires_grad_(False)


def _quantize_part(
    part: _Layers | GatedCell, dtype: torch.dtype, stored: dict[Tensor, Tensor]
) -> None:
    """Replace the matrices of a part. `stored` has those of tied weights, by parameter."""
    if isinstance(part, GatedCell):
        _check_cell(part)
        _check_heads(part)
        names = list(MATRICES)
    else:
        names = [name for names in part._all_weights for name in names if "weight" in name]
    if parametrize.is_parametrized(part):
        _evaluate_parametrizations(part)
    for name in names:
        weight = getattr(part, name, None)
        if weight is None or weight.dim() != 2:
            continue
        if weight not in stored:
            _check_weight(part, name, weight)
            narrow = to_int8(weight) if dtype is torch.int8 else weight.detach().to(dtype)
            stored[weight] = narrow
        delattr(part, name)
        part.register_buffer(name, stored[weight])
    if isinstance(part, _Layers):
        part._init_flat_weights()


def _evaluate_parametrizations(part: Any) -> None:
    """Replace parametrized parameters by their values.

    `remove_parametrizations` would change the class, which the original module has as well.
    """
    values = {name: getattr(part, name).detach() for name in part.parametrizations}
    part.__class__ = parametrize.type_before_parametrizations(part)
    del part.parametrizations
    for name, value in values.items():
        part.register_parameter(name, nn.Parameter(value))


def _check_cell(cell: GatedCell) -> None:
    kernel, reason = kernel_of_cell(cell)
    if kernel is None or not has_standard_forward(cell):
        why = reason or "it has a forward of its own"
        raise ValueError(
            f"module: expected cells with a kernel, got {type(cell).__name__}: {why}; write its "
            "equations as a GatedCell"
        )


def _check_heads(cell: GatedCell) -> None:
    if cell.heads > 1 and cell.hidden_size // cell.heads % 16:
        raise ValueError(
            f"module: expected heads of a multiple of 16 units, got {cell.heads} heads of "
            f"{cell.hidden_size // cell.heads} in {type(cell).__name__}"
        )


def _check_weight(part: nn.Module, name: str, weight: Tensor) -> None:
    kind = type(part).__name__
    if name in part._buffers:
        raise ValueError(
            f"{kind}.{name}: expected a parameter, got quantized weights; quantize the original "
            "module"
        )
    if name not in part._parameters:
        raise ValueError(
            f"{kind}.{name}: expected a parameter, got a tensor that a hook computes; use "
            "torch.nn.utils.parametrizations"
        )
    if weight.dtype is not torch.float32 or not weight.is_cpu:
        raise ValueError(
            f"{kind}.{name}: expected float32 on the CPU, got {weight.dtype} on {weight.device}; "
            "convert the module with .float().cpu()"
        )
    if weight.shape[1] > MOST_COLUMNS:
        raise ValueError(
            f"{kind}.{name}: expected at most {MOST_COLUMNS} columns, got {weight.shape[1]}; sums "
            "of more products of int8 numbers can overflow"
        )
    if not weight.isfinite().all():
        raise ValueError(f"{kind}.{name}: expected finite weights, got NaN or infinity")
