"""Gradients of a call, by a backend, the operators or the readable loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seqcells.compatibility import (
    dispatch_modes,
    function_modes,
    is_legacy_batched,
    is_profiled,
    is_transformed,
    replace,
    tracing_state,
)
from seqcells.equations.protocol import Weights
from seqcells.equations.readable import equations_of
from seqcells.kernels.backend import Backend
from seqcells.kernels.call import Call
from seqcells.noise import Noise
from seqcells.recurrence.choice import own_backend
from seqcells.recurrence.reference import reference
from seqcells.recurrence.request import Request
from seqcells.state import flat_state, form_state


def readable(call: Call) -> list[Tensor]:
    """Compute a call by the readable loop, which supports every transform and derivative."""
    cell = equations_of(call.kernel)
    form = cell.initial_state(0)
    noise = Noise(call.read, call.drop, form_state(form, list(call.zone)) if call.zone else None)
    request = Request(
        cell,
        Weights(*call.weights),
        call.inputs,
        form_state(form, list(call.state)),
        form_state(form, list(call.fresh)) if call.fresh else None,
        None if all(part is None for part in noise) else noise,
        call.lengths,
        call.batch_sizes,
        call.resets,
        call.reverse,
        call.cells,
    )
    outputs, final = reference(request)
    if call.is_single():
        return flat_state(final)
    first, *rest = flat_state(outputs)
    return [first, *flat_state(final), *rest]


def is_observed() -> bool:
    """Return whether a mode, a profiler or a tracer observes operators in eager mode."""
    return (
        dispatch_modes() > 0 or function_modes() > 0 or is_profiled() or tracing_state() is not None
    )


def with_backend(backend: Backend, call: Call) -> Call:
    """Return the call with a kernel that names the backend, unless it is the device's own."""
    if own_backend(call.inputs) == backend.NAME:
        return call
    return replace(call, kernel=replace(call.kernel, backend=backend.NAME))


class Recurrence(torch.autograd.Function):
    """A call as an autograd function, on a backend or, with None, by the operators."""

    @staticmethod
    def forward(ctx: Any, backend: Backend | None, call: Call, *_: Tensor) -> tuple[Tensor, ...]:
        if backend is None:
            *results, saved = torch.ops.seqcells._train(*call.arguments())
        else:
            *results, saved = backend.forward(call, train=True)
        ctx.set_materialize_grads(False)
        ctx.backend = backend
        ctx.layout, tensors = call.split()
        ctx.graph, tensor = (None, saved) if isinstance(saved, Tensor) else (saved, None)
        ctx.save_for_backward(results[0], tensor, *tensors)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        outputs, saved, *tensors = ctx.saved_tensors
        call = Call.join(ctx.layout, tensors)
        wanted, saved = ctx.needs_input_grad[2:], saved if ctx.graph is None else ctx.graph
        return None, None, *gradients(ctx.backend, call, grads, outputs, saved, wanted)


def gradients(
    backend: Backend | None,
    call: Call,
    grads: Sequence[Tensor | None],
    outputs: Tensor,
    saved: Any,
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Return the gradients of `call.tensors`, differentiable themselves if that is required."""
    if differentiated(grads):
        return readable_backward(call, grads, wanted, torch.is_grad_enabled())
    if backend is not None and (not isinstance(saved, Tensor) or unobserved(grads)):
        return backend.backward(call, grads, outputs, saved, wanted)
    if call.is_single():
        return readable_backward(call, grads, wanted, create_graph=False)
    if backend is not None:
        call = with_backend(backend, call)
    parts = len(call.state)
    weights = any(wanted[1 + parts : 7 + parts])
    found = torch.ops.seqcells._backward(
        grads, *call.arguments(), outputs, saved, wanted[0], weights
    )
    return [grad if want else None for grad, want in zip(found, wanted)]


def differentiated(grads: Sequence[Tensor | None]) -> bool:
    """Return whether the backward pass is itself differentiated or transformed."""
    return torch.is_grad_enabled() or is_transformed() or batched(grads)


def unobserved(grads: Sequence[Tensor | None]) -> bool:
    """Return whether nothing observes the backward pass as an operator."""
    return all(grad is None or type(grad) is Tensor for grad in grads) and not is_observed()


def batched(grads: Sequence[Tensor | None]) -> bool:
    """Return whether the gradients are batched: `torch.autograd.grad(is_grads_batched=True)`."""
    if torch.compiler.is_compiling():
        return False
    return any(grad is not None and is_legacy_batched(grad) for grad in grads)


def readable_backward(
    call: Call, grads: Sequence[Tensor | None], wanted: Sequence[bool], create_graph: bool
) -> list[Tensor | None]:
    """Return the gradients of the `wanted` tensors, which require them, by the readable loop."""
    layout, tensors = call.split()
    with torch.enable_grad():
        aliases = [
            tensor.view_as(tensor) if tensor is not None and want else tensor
            for tensor, want in zip(tensors, wanted)
        ]
        results = readable(Call.join(layout, [*aliases, *tensors[len(aliases) :]]))
    pairs = [(r, g) for r, g in zip(results, grads) if g is not None and r.requires_grad]
    if not pairs:
        return [None] * len(aliases)
    ends, upstream = zip(*pairs)
    sources = [alias for alias, want in zip(aliases, wanted) if want and alias is not None]
    found = iter(
        torch.autograd.grad(ends, sources, upstream, create_graph=create_graph, allow_unused=True)
    )
    return [next(found) if want else None for want in wanted]
