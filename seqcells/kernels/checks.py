"""Validation of calls before native code, which trusts their sizes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from seqcells.equations.catalogue import Kernel
from seqcells.kernels.call import Call
from seqcells.kernels.narrow import columns as columns_of


def check(call: Call) -> None:
    """Raise a ValueError unless all sizes, dtypes and devices of a call match."""
    place, dtype = call.inputs.device, call.inputs.dtype
    for tensor in (*call.tensors, *call.noise):
        if tensor is None or (tensor.device == place and call.is_narrow_matrix(tensor)):
            continue
        if tensor.dtype != dtype or tensor.device != place:
            raise ValueError(
                f"expected {dtype} on {place}, as the inputs are, got {tensor.dtype} "
                f"on {tensor.device}"
            )
    for step in (call.lengths, call.resets):
        if step is not None and step.device != place:
            raise ValueError(f"lengths, resets: expected them on {place}, got {step.device}")
    check_sizes(call)


def check_sizes(call: Call) -> None:
    """Raise a ValueError unless all sizes of a call match."""
    kernel = call.kernel
    if len(call.state) != kernel.states:
        raise ValueError(f"state: expected {kernel.states} tensors, got {len(call.state)}")
    inputs, (rows, hidden) = call.inputs, call.state[-1].shape
    width = hidden if call.weight_hr is None else call.weight_hr.shape[0]
    fused, fused_inputs = kernel.gates * hidden, kernel.inputs * hidden
    features = inputs.shape[-1]
    weight_hh, bias_ih, bias_hh = call.weight_hh, call.bias_ih, call.bias_hh
    widths = [width, *[hidden] * (len(call.state) - 1)]
    for part in call.state[1:-1]:
        _refuse([("state", part, (rows, hidden))])
    found: tuple[Any, ...] = (
        call.state[0].shape,
        _matrix_shape(call.weight_ih),
        weight_hh if weight_hh is None else _matrix_shape(weight_hh),
        bias_ih if bias_ih is None else bias_ih.shape,
        bias_hh if bias_hh is None else bias_hh.shape,
        inputs.shape,
    )
    packed, size = call.batch_sizes is not None, width
    if weight_hh is not None and weight_hh.shape[1:] != (width,) and call.heads > 1:
        size = width // call.heads
    expected: tuple[Any, ...] = (
        (rows, width),
        (fused_inputs, features),
        (fused, size) if kernel.hidden else None,
        bias_ih if bias_ih is None else (fused_inputs,),
        bias_hh if bias_hh is None else (fused,),
        (inputs.shape[0], features) if packed else (*inputs.shape[:-2], rows, features),
    )
    if found != expected:
        names = ("state", "weight_ih", "weight_hh", "bias_ih", "bias_hh", "inputs")
        _refuse(zip(names, found, expected))
    if kernel.parameters or call.parameters is not None:
        shape = (kernel.parameters, hidden) if kernel.parameters else None
        _refuse([("parameters", call.parameters, shape)])
    if call.weight_hr is not None:
        _refuse([("weight_hr", _matrix_shape(call.weight_hr), (width, hidden))])
    if call.lengths is not None:
        _refuse([("lengths", call.lengths, (rows,))])
    if call.batch_sizes is not None:
        _check_batch_sizes(call.batch_sizes.tolist(), rows, inputs.shape[0])
    if call.resets is not None:
        _check_count("fresh", call.fresh, kernel.states)
        _refuse([("resets", call.resets, (call.steps, rows))])
        _refuse(("fresh", part, (rows, size)) for part, size in zip(call.fresh, widths))
        if call.resets.dtype != torch.bool:
            raise ValueError(f"resets: expected a bool tensor, got {call.resets.dtype}")
    if call.read is not None or call.drop is not None or call.zone:
        _check_noise(call, kernel, rows, widths)


def _matrix_shape(weight: Tensor) -> tuple[int, ...]:
    """Return the shape of a matrix without the scales of its rows."""
    if weight.dtype is torch.int8 and weight.dim() == 2:
        return weight.shape[0], columns_of(weight)
    return weight.shape


def _refuse(parts: Iterable[tuple[str, Any, tuple[int, ...] | None]]) -> None:
    """Raise for the first part, a tensor or a shape, that differs from what is expected."""
    for name, part, expected in parts:
        found = part.shape if isinstance(part, Tensor) else part
        if found != expected:
            said = "none" if found is None else f"shape {tuple(found)}"
            wanted = "none, for its kernel" if expected is None else f"shape {expected}"
            raise ValueError(f"{name}: expected {wanted}, got {said}")


def _check_count(name: str, parts: Sequence[Tensor], count: int) -> None:
    if len(parts) != count:
        raise ValueError(f"{name}: expected {count} tensors, got {len(parts)}")


def _check_noise(call: Call, kernel: Kernel, rows: int, widths: Sequence[int]) -> None:
    if call.zone:
        _check_count("zone", call.zone, kernel.states)
    for name, part, taken, columns in (
        ("read", call.read, kernel.hidden, widths[0]),
        ("drop", call.drop, kernel.takes_drop, call.state[-1].shape[1]),
        *(("zone", part, True, size) for part, size in zip(call.zone, widths)),
    ):
        if part is not None:
            shape = (rows, columns) if part.dim() < 3 else (call.steps, rows, columns)
            _refuse([(name, part, shape if taken else None)])


def _check_batch_sizes(sizes: list[int], rows: int, cells: int) -> None:
    falling = sizes == sorted(sizes, reverse=True) and sizes[:1] == [rows] and sizes[-1] >= 0
    if not falling or sum(sizes) != cells:
        raise ValueError(
            f"batch_sizes: expected falling numbers from {rows}, in all {cells}, got {sizes}"
        )
