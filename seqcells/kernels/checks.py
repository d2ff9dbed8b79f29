"""That the sizes of a call fit together: native code goes by them, and would overrun memory."""

from __future__ import annotations

import torch
from torch import Tensor

from seqcells.equations.catalogue import kind_of
from seqcells.kernels.request import Call


def check(call: Call) -> None:
    """Raise a ValueError unless all sizes of an operator's `Call` fit together."""
    place = call.inputs.get_device()  # a number, quicker to compare than devices
    kind = kind_of(call.cell)
    gates, parts, parameters = kind.gates, kind.states, kind.parameters
    for name, state, count in (
        ("state", call.state, parts),
        ("fresh", call.fresh, 0 if call.resets is None else parts),
    ):
        if len(state) != count:
            raise ValueError(f"{name}: expected {count} tensors, got {len(state)}")
    hidden = call.state[-1].shape[-1]
    width = hidden if call.weight_hr is None else call.weight_hr.shape[0]
    rows, features, fused = call.state[0].shape[0], call.inputs.shape[-1], gates * hidden
    for state in (call.state, call.fresh):
        for part, columns in zip(state, (width, hidden)):
            _expect("state", part, (rows, columns), place)
    _expect("weight_ih", call.weight_ih, (fused, features), place)
    _expect("weight_hh", call.weight_hh, (fused, width), place)
    _expect("bias_ih", call.bias_ih, (fused,), place)
    _expect("bias_hh", call.bias_hh, (fused,), place)
    _expect("weight_hr", call.weight_hr, (width, hidden), place)
    for name, needed in (("weight_hh", kind.hidden), ("parameters", parameters > 0)):
        if (getattr(call, name) is None) == needed:
            raise ValueError(f"{name}: expected {'one' if needed else 'none'} for {call.cell!r}")
    _expect("parameters", call.parameters, (parameters, hidden), place)
    _expect("lengths", call.lengths, (rows,), place)
    if call.batch_sizes is None:
        steps = call.inputs.shape[0]
        _expect("inputs", call.inputs, (steps, rows, features), place)
    else:
        steps = call.batch_sizes.shape[0]
        _expect("inputs", call.inputs, (call.inputs.shape[0], features), place)
        _check_batch_sizes(call.batch_sizes.tolist(), rows, call.inputs.shape[0])
    _expect("resets", call.resets, (steps, rows), place)
    if call.read is not None or call.drop is not None or call.zone:
        _check_noise(call, steps, rows, width, hidden)
    if call.resets is not None and call.resets.dtype != torch.bool:
        raise ValueError(f"resets: expected a bool tensor, got {call.resets.dtype}")


def _check_noise(call: Call, steps: int, rows: int, width: int, hidden: int) -> None:
    kind = kind_of(call.cell)
    if len(call.zone) not in (0, kind.states):
        raise ValueError(f"zone: expected {kind.states} tensors or none, got {len(call.zone)}")
    for name, part, taken, columns in (
        ("read", call.read, kind.hidden, width),
        ("drop", call.drop, kind.drops, hidden),
        *(("zone", part, True, size) for part, size in zip(call.zone, (width, hidden))),
    ):
        if part is not None and not taken:
            raise ValueError(f"{name}: expected none for {call.cell!r}")
        _expect(
            name,
            part,
            (rows, columns) if part is None or part.dim() < 3 else (steps, rows, columns),
            call.inputs.get_device(),
        )


def _check_batch_sizes(sizes: list[int], rows: int, cells: int) -> None:
    falling = sizes == sorted(sizes, reverse=True) and sizes[:1] == [rows] and sizes[-1] >= 0
    if not falling or sum(sizes) != cells:
        raise ValueError(
            f"batch_sizes: expected falling numbers from {rows}, in all {cells}, got {sizes}"
        )


def _expect(name: str, tensor: Tensor | None, shape: tuple[int, ...], place: int) -> None:
    if tensor is not None and (tensor.shape != shape or tensor.get_device() != place):
        where = "the CPU" if place < 0 else f"GPU {place}"
        raise ValueError(
            f"{name}: expected shape {shape} on {where}, as the inputs are, got "
            f"{tuple(tensor.shape)} on {tensor.device}"
        )
