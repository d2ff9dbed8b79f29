"""Fake implementations and operation counts of the operators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from seqcells.kernels.call import Call
from seqcells.recurrence.choice import selected


def fake_forward(*arguments: Any) -> list[Tensor]:
    """Return empty results of `recurrence`."""
    call = Call.of(*arguments)
    rows = call.inputs.shape[:-1]
    outputs = call.inputs.new_empty((*rows, call.state[0].shape[1]))
    later = call.state[1:] if call.cells else []
    states = [call.inputs.new_empty((*rows, part.shape[1])) for part in later]
    return [outputs, *(part.new_empty(part.shape) for part in call.state), *states]


def fake_train(*arguments: Any) -> list[Tensor]:
    """Return empty results of `_train`."""
    return [*fake_forward(*arguments), empty_saved_tensor(Call.of(*arguments))]


def fake_backward(grads: Sequence[Tensor | None], *arguments: Any) -> list[Tensor]:
    """Return empty results of `_backward`."""
    *given, _, _, need_inputs, need_weights = arguments
    call = Call.of(*given)
    return [
        missing_gradient(call) if tensor is None or not want else tensor.new_empty(tensor.shape)
        for tensor, want in zip(call.tensors, required_gradients(call, need_inputs, need_weights))
    ]


def empty_saved_tensor(call: Call) -> Tensor:
    """Return the buffer of saved values. Its shape is the same on every machine."""
    backend = selected(call)
    if backend is not None and backend.SAVES_TENSOR:
        return backend.saved_tensor(call)
    return call.inputs.new_empty(math.prod(call.inputs.shape[:-1]), 0)


def required_gradients(call: Call, need_inputs: bool, need_weights: bool) -> list[bool]:
    """Return for each tensor of a call whether `_backward` returns its gradient."""
    weights = [weight is not None and need_weights for weight in call.weights]
    return [need_inputs, *[True] * len(call.state), *weights, *[True] * len(call.fresh)]


def missing_gradient(call: Call) -> Tensor:
    """Return an empty tensor in place of a gradient that is not required."""
    return call.inputs.new_empty(0)


def flops(*shapes: Any, **options: Any) -> int:
    """Count multiplications and additions of the products, for `FlopCounterMode`."""
    call = Call.of(*shapes[: len(Call._fields)])
    weights = (call.weight_ih, call.weight_hh, call.weight_hr)
    sizes = (math.prod(shape) for shape in weights if shape is not None)
    return 2 * math.prod(call.inputs[:-1]) * sum(sizes)


def backward_flops(grads: Any, *shapes: Any, **options: Any) -> int:
    """Count those of `_backward`: two products for each one of the forward pass."""
    return 2 * flops(*shapes, **options)
