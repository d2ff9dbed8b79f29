"""Cached validation of plain calls."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from seqcells.compatibility import TensorGuards
from seqcells.equations.catalogue import Kernel, kernel_of
from seqcells.kernels import cpu
from seqcells.kernels.cpu.library import Problem
from seqcells.kernels.narrow import SCALE_BYTES

# Inputs, hidden state, the other part of the state, weight_ih, weight_hh, bias_ih, bias_hh.
Tensors = tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor, Tensor | None, Tensor | None]


class Plan(NamedTuple):
    """A validated plain call, valid for all tensors that its guard admits.

    Attributes:
        admits: the guard of torch's compiled graphs. It compares each tensor's type, dispatch keys,
            dtype, device, requires_grad, sizes and strides; time and batch size may vary.
        template: the bytes of a `Problem`, with every member that is the same in all calls.
        features: number of inputs I.
        requires_grad: whether any tensor requires gradients.
        quantized: whether both matrices are int8.
        narrow: whether all tensors are bfloat16.
    """

    kernel: Kernel
    admits: Any
    template: bytes
    features: int
    requires_grad: bool
    quantized: bool
    narrow: bool


def plan_of(name: str, tensors: Tensors) -> Plan | None:
    """Validate a call and return its plan; None if the call is not plain."""
    kernel = kernel_of(name)
    if not kernel.weights_unchanged or cpu.unavailable() is not None:
        return None
    inputs, hidden, other, weight_ih, weight_hh, bias_ih, bias_hh = tensors
    if (
        inputs.dim() not in (2, 3)
        or hidden.dim() != 2
        or kernel.states != (1 if other is None else 2)
    ):
        return None
    dtype, features, units = inputs.dtype, inputs.shape[-1], hidden.shape[1]
    fused, fused_inputs = kernel.gates * units, kernel.inputs * units
    quantized = weight_ih.dtype is torch.int8 and dtype is torch.float32
    more = SCALE_BYTES if quantized else 0
    if (
        dtype not in cpu.DTYPES
        or weight_ih.shape != (fused_inputs, features + more)
        or weight_hh.shape != (fused, units + more)
        or weight_hh.dtype is not weight_ih.dtype
        or (other is not None and (other.dim() != 2 or other.shape[1] != units))
        or (bias_ih is not None and bias_ih.shape != (fused_inputs,))
        or (bias_hh is not None and bias_hh.shape != (fused,))
    ):
        return None
    compared = distinct(tensors)
    for tensor in compared:
        if (
            (type(tensor) is not Tensor and type(tensor) is not nn.Parameter)
            or (tensor.dtype is not dtype and not (quantized and tensor.dtype is torch.int8))
            or tensor.layout is not torch.strided
            or not tensor.is_cpu
            or not tensor.is_contiguous()
            or tensor.is_neg()
        ):
            return None
    return Plan(
        kernel,
        guard(compared, 2 if other is None or other is hidden else 3),
        _template(kernel, dtype, features, units, quantized),
        features,
        any(tensor.requires_grad for tensor in compared),
        quantized,
        dtype is torch.bfloat16,
    )


def guard(tensors: tuple[Tensor, ...], varying: int) -> Any:
    """Return a guard on these tensors.

    The first `varying` ones, inputs and state, may have another number of steps and rows.
    """
    sizes: list[list[int | None]] = [list(tensor.shape) for tensor in tensors]
    strides: list[list[int | None]] = [list(tensor.stride()) for tensor in tensors]
    for size, stride in zip(sizes[:varying], strides):
        size[:-1] = [None] * (len(size) - 1)
        stride[:-2] = [None] * (len(stride) - 2)
    return TensorGuards(*tensors, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides).check


def _template(
    kernel: Kernel, dtype: torch.dtype, features: int, units: int, quantized: bool
) -> bytes:
    problem = Problem()
    problem.narrow = problem.stored = 2 if quantized else int(dtype is torch.bfloat16)
    problem.cell = kernel.number
    problem.gates = kernel.gates
    problem.is_double = dtype is torch.float64
    problem.heads = 1
    problem.input_size = problem.input_row = features
    problem.hidden_size = units
    return bytes(problem)


def distinct(tensors: Tensors) -> tuple[Tensor, ...]:
    """Return the distinct tensors of a call; a guard rejects duplicates."""
    inputs, hidden, other, weight_ih, weight_hh, bias_ih, bias_hh = tensors
    weights: tuple[Any, ...] = weight_ih, weight_hh, bias_ih, bias_hh
    if bias_ih is None or bias_hh is None:
        weights = tuple(tensor for tensor in weights if tensor is not None)
    if other is None or other is hidden:
        return inputs, hidden, *weights
    return inputs, hidden, other, *weights
