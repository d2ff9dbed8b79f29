"""The recurrence as PyTorch operators: `torch.ops.seqcells`.

The readable loop specifies `recurrence`, and a backend computes it. `_train` also returns the saved
tensor, which `_backward` reads. Each is one node of a compiled or exported graph, whatever the
length of the sequence.

Implementation by kind of call, in order of precedence:

    transforms of torch.func (vmap, grad, jvp)   readable loop
    forward-mode differentiation                 readable loop
    gradients required                           `_train`, then `_backward`, or the readable loop
                                                 if the backward pass is differentiated
    otherwise                                    `recurrence`, which saves nothing

In eager mode, `run` computes `vmap` and reverse-mode `grad` on kernels, without the operators
(`recurrence.transforms`).

Each operator runs on the backend that its kernel names (`"cudnn lstm"`), else on the device's own,
else as the readable loop. If nothing observes the call, `run` bypasses the dispatcher, whose
overhead dominates short calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from seqcells.compatibility import (
    after_autograd,
    is_forward_mode,
    is_transformed,
    register_flop_formulas,
)
from seqcells.kernels.backend import Backend
from seqcells.kernels.call import Call
from seqcells.kernels.checks import check, check_sizes
from seqcells.recurrence.autograd import (
    Recurrence,
    is_observed,
    readable,
    readable_backward,
    with_backend,
)
from seqcells.recurrence.choice import selected
from seqcells.recurrence.missing_kernel import warn_if_missing
from seqcells.recurrence.shapes import (
    backward_flops,
    empty_saved_tensor,
    fake_backward,
    fake_forward,
    fake_train,
    flops,
    missing_gradient,
    required_gradients,
)
from seqcells.recurrence.transforms import run_transformed

_ARGUMENTS = (
    "str cell, Tensor inputs, Tensor[] state, Tensor weight_ih, Tensor? weight_hh, "
    "Tensor? bias_ih, Tensor? bias_hh, Tensor? weight_hr, Tensor? parameters, Tensor[] fresh, "
    "Tensor? read, Tensor? drop, Tensor[] zone, Tensor? lengths, Tensor? batch_sizes, "
    "Tensor? resets, bool reverse, bool cells"
)
_SCHEMAS = (
    f"recurrence({_ARGUMENTS}) -> Tensor[]",
    f"_train({_ARGUMENTS}) -> Tensor[]",
    f"_backward(Tensor?[] grads, {_ARGUMENTS}, Tensor outputs, Tensor saved, "
    "bool need_inputs, bool need_weights) -> Tensor[]",
)

_library = torch.library.Library("seqcells", "DEF")
for _schema in _SCHEMAS:
    _library.define(_schema, tags=(torch.Tag.pt2_compliant_tag,))
recurrence = torch.ops.seqcells.recurrence.default
_train = torch.ops.seqcells._train.default
_backward = torch.ops.seqcells._backward.default


def run(backend: Backend, call: Call, compiling: bool) -> list[Tensor]:
    """Run a validated call on a backend: `[outputs, *final_state]`, or a single step's state."""
    if not compiling and is_transformed():
        return run_transformed(call)
    if compiling or is_observed():
        results = recurrence(*with_backend(backend, call.with_time()).arguments())
        return results[1:] if call.is_single() else results
    check_sizes(call)
    if not torch.is_grad_enabled():
        return backend.forward(call, train=False)
    if call.read is not None or call.drop is not None or call.zone:
        for part in call.noise:
            if part is not None and part.requires_grad:
                return readable(call)
    tensors = call.tensors
    for tensor in tensors:
        if tensor is not None and tensor.requires_grad:
            return list(Recurrence.apply(backend, call, *tensors))
    return backend.forward(call, train=False)


def _runner(arguments: Sequence[Any]) -> tuple[Backend | None, Call]:
    """Return the backend of an operator's call, None for the readable loop, and the call."""
    call = Call.of(*arguments)
    backend = selected(call)
    if backend is not None and (
        call.inputs.dtype not in backend.DTYPES or backend.refuses_kernel(call.kernel)
    ):
        warn_if_missing(backend, call.inputs)
        backend = None
    return backend, call


# Implementations of the operators by dispatch key. The arguments are those of `Call.of`.


def _differentiable(keys: Any, *arguments: Any) -> list[Tensor]:
    call = Call.of(*arguments)
    if is_forward_mode():
        return readable(call)
    if torch.is_grad_enabled():
        if any(part is not None and part.requires_grad for part in call.noise):
            return readable(call)
        tensors = call.tensors
        if any(tensor is not None and tensor.requires_grad for tensor in tensors):
            backend = selected(call)
            if backend is not None and not backend.SAVES_TENSOR:
                check(call)
                return list(Recurrence.apply(backend, call, *tensors))
            return list(Recurrence.apply(None, call, *tensors))
    return recurrence.redispatch(keys & after_autograd, *arguments)


def _transformed(*arguments: Any) -> list[Tensor]:
    return readable(Call.of(*arguments))


def _forward(*arguments: Any) -> list[Tensor]:
    backend, call = _runner(arguments)
    if backend is None:
        return _readable_copies(call)
    check(call)
    return backend.forward(call, train=False)


def _forward_train(*arguments: Any) -> list[Tensor]:
    backend, call = _runner(arguments)
    if backend is None:
        return [*_readable_copies(call), empty_saved_tensor(call)]
    check(call)
    return backend.forward(call, train=True)


def _backward_through_time(grads: Sequence[Tensor | None], *arguments: Any) -> list[Tensor]:
    *given, outputs, saved, need_inputs, need_weights = arguments
    backend, call = _runner(given)
    wanted = required_gradients(call, need_inputs, need_weights)
    if backend is not None:
        found = backend.backward(call, grads, outputs, saved, wanted)
    else:
        layout, tensors = call.split()
        leaves = [
            tensor.detach().requires_grad_() if tensor is not None and want else tensor
            for tensor, want in zip(tensors, wanted)
        ]
        call = Call.join(layout, [*leaves, *tensors[len(leaves) :]])
        gradients = readable_backward(call, grads, wanted, create_graph=False)
        found = [
            None
            if leaf is None or not want
            else _detached_copy(torch.zeros_like(leaf) if grad is None else grad)
            for leaf, grad, want in zip(leaves, gradients, wanted)
        ]
    return [missing_gradient(call) if grad is None else grad for grad in found]


def _readable_copies(call: Call) -> list[Tensor]:
    return [_detached_copy(result) for result in readable(call)]


def _detached_copy(result: Tensor) -> Tensor:
    """Return a copy without a graph: operators must not return views of their arguments."""
    return result.detach().clone(memory_format=torch.contiguous_format)


_library.impl("recurrence", _differentiable, "Autograd", with_keyset=True)
_library.impl("recurrence", _transformed, "FuncTorchDynamicLayerFrontMode")
_OPERATORS: tuple[tuple[str, Callable[..., Any], Callable[..., Any], Callable[..., int]], ...] = (
    ("recurrence", _forward, fake_forward, flops),
    ("_train", _forward_train, fake_train, flops),
    ("_backward", _backward_through_time, fake_backward, backward_flops),
)
for _name, _kernel, _shapes, _ in _OPERATORS:
    _library.impl(_name, _kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"seqcells::{_name}", _shapes, lib=_library)
    for _device in ("cpu", "cuda"):
        torch.library.register_autocast(f"seqcells::{_name}", _device, torch.float32, lib=_library)
register_flop_formulas(
    [(getattr(torch.ops.seqcells, name), count) for name, _, _, count in _OPERATORS]
)
