"""Gradient norms at each time step of each recurrence in a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from seqcells.recurrent import Recurrent
from seqcells.stack import Stack, directions
from seqcells.state import State, first_tensor


class _Call(NamedTuple):
    """One call of a recurrence: its input, and the copy that the gradient is computed for."""

    name: str
    recurrence: Recurrent | nn.RNNBase
    original: Tensor | PackedSequence
    copy: Tensor


def gradient_flow(
    model: nn.Module, *batch: Any, loss: Callable[[Any], Tensor] | None = None, **options: Any
) -> dict[str, Tensor]:
    """Return the norm of the loss's gradient by the input of each recurrence, per time step.

    It runs `model(*batch, **options)` in the model's current mode, and differentiates
    `loss(result)`. Recurrences are `Recurrent` and the layers of seqcells and `torch.nn`; a layer
    counts as one, whatever its depth and directions. The choice of backend is not affected.
    Parameter gradients, buffers, hooks and torch's random state (on the CPU and CUDA) are restored
    afterwards, also after an error.

    Interpretation: in a plain RNN, `h_t = phi(a_t)` with `a_t = W_ih x_t + W_hh h_{t-1}`. With
    `d_t = dL/da_t`, the gradient by the input is `dL/dx_t = W_ih^T d_t`. The gradient by the
    previous state is `dL/dh_{t-1} = W_hh^T d_t` if only the last step has a loss. Both are one
    product away from `d_t`, so they vanish or explode together over time:
    `d_{t-1} = phi'(a_{t-1}) * W_hh^T d_t` shrinks at least by the largest singular value of `W_hh`
    if that is below one, and can grow if it is above (Bengio et al. 1994, Pascanu et al. 2013). In
    a gated cell, the state's gradient also bypasses the product (`f * c'`, `z * h'`), and reaches
    the input through the input gate. If that gate is nearly closed, `dL/dx_t` is small although
    the state's gradient is not. Gradients that underflow in float32 are zero.

    Args:
        model: a recurrence, or a model that contains recurrences.
        batch: positional arguments of the model.
        options: keyword arguments of the model.
        loss: function from the model's result to a scalar. By default, the sum of the final hidden
            state (of the last layer, in each direction) if the model is a recurrence or a `Stack`,
            and the sum of the output if another model returns a tensor.

    Returns:
        A dict from the recurrence's name in `model.named_modules()`, or the class name for the
        model itself, to the norms over features in the layout of its input: `(T, B)`, with
        `batch_first` `(B, T)`, unbatched `(T,)`. Results for packed inputs are padded. Norms are
        zero beyond each length and at inputs that do not affect the loss. Gradients that bypass a
        recurrence, as in a residual connection, are not included. Further calls of a recurrence
        are named `name:2`, `name:3`.

    Raises:
        TypeError: the model is not a module, the loss is not a tensor, or a recurrence has integer
            inputs.
        ValueError: the model contains or calls no recurrence, its result requires a `loss`, or the
            loss is not a scalar or has no gradient.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    calls: list[_Call] = []
    with _restored(model), ExitStack() as hooks, torch.enable_grad():
        for name, recurrence in _recurrences(model).items():
            hook = partial(_record_call, calls, name)
            hooks.enter_context(recurrence.register_forward_pre_hook(hook, with_kwargs=True))
        result = model(*batch, **options)
        if not calls:
            raise ValueError(
                "model: expected one that calls a recurrence as a module, not by its forward; "
                "got no such call"
            )
        value = _default_loss(model, result) if loss is None else loss(result)
        _check_loss(value)
        copies = [call.copy for call in calls]
        gradients = torch.autograd.grad(value, copies, materialize_grads=True)
    return {call.name: _norms(call, gradient) for call, gradient in zip(calls, gradients)}


def _recurrences(model: nn.Module) -> dict[str, Recurrent | nn.RNNBase]:
    found = {
        name or type(module).__name__: module
        for name, module in model.named_modules()
        if isinstance(module, (Recurrent, nn.RNNBase))
    }
    if not found:
        raise ValueError(
            "model: expected a Recurrent, a layer of seqcells or torch.nn, or a model with one in "
            f"it, got {model}; wrap a cell in Recurrent"
        )
    return found


@contextmanager
def _restored(model: nn.Module) -> Iterator[None]:
    """Restore the model's buffers and the random state on exit."""
    buffers = [
        (owner, name, buffer, buffer.clone())
        for owner in model.modules()
        for name, buffer in owner.named_buffers(recurse=False)
    ]
    tensors = (*model.parameters(), *model.buffers())
    with torch.random.fork_rng({tensor.device for tensor in tensors if tensor.is_cuda}):
        try:
            yield
        finally:
            for owner, name, buffer, value in buffers:
                setattr(owner, name, buffer)
                if not torch.equal(buffer, value):
                    with torch.no_grad():
                        buffer.copy_(value)


def _record_call(
    calls: list[_Call],
    name: str,
    recurrence: Recurrent | nn.RNNBase,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Forward pre-hook: record a call, and replace its input by a copy that requires a gradient."""
    keyword = None if args else next((key for key in ("inputs", "input") if key in kwargs), None)
    if not args and keyword is None:
        return None
    original = kwargs[keyword] if keyword else args[0]
    data = original.data if isinstance(original, PackedSequence) else original
    if not isinstance(data, Tensor):
        return None
    if not data.is_floating_point():
        raise TypeError(
            f"{name}: expected floating-point inputs, got {data.dtype}, which has no gradient"
        )
    copy = data.clone()
    if not copy.requires_grad:
        copy.requires_grad_()
    count = 1 + sum(call.recurrence is recurrence for call in calls)
    calls.append(_Call(name if count == 1 else f"{name}:{count}", recurrence, original, copy))
    packed = isinstance(original, PackedSequence)
    replaced = PackedSequence(copy, *original[1:]) if packed else copy
    return (args, {**kwargs, keyword: replaced}) if keyword else ((replaced, *args[1:]), kwargs)


def _default_loss(model: nn.Module, result: Any) -> Tensor:
    if isinstance(model, Recurrent):
        return _hidden(model, result[1]).sum()
    if isinstance(model, Stack):
        layer, state = model.layers[-1], result[1][-1]
        runs = directions(layer)
        states = [state] if len(runs) == 1 else state
        return torch.stack([_hidden(*pair).sum() for pair in zip(runs, states)]).sum()
    if isinstance(model, nn.RNNBase):
        return first_tensor(result[1])[-2 if model.bidirectional else -1 :].sum()
    if isinstance(result, Tensor):
        return result.sum()
    raise ValueError(
        "loss: expected a function from the model's result to a scalar, since the model returns no "
        f"tensor; got None, and {type(result).__name__} from the model"
    )


def _hidden(recurrent: Recurrent, state: State) -> Tensor:
    return getattr(recurrent.cell, "output", first_tensor)(state)


def _check_loss(value: Any) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"loss: expected a scalar tensor, got {type(value).__name__}")
    if value.numel() != 1:
        raise ValueError(f"loss: expected a scalar, got shape {tuple(value.shape)}; reduce it")
    if not value.requires_grad:
        raise ValueError(
            "loss: expected one that depends on the model's result, got a tensor without a "
            "gradient; leave out detach() and no_grad()"
        )


def _norms(call: _Call, gradient: Tensor) -> Tensor:
    """Return the norms over features, summed in float64, where squares do not underflow."""
    packed = isinstance(call.original, PackedSequence)
    features = range(1 if packed or gradient.dim() == 2 else 2, gradient.dim())
    norms = torch.linalg.vector_norm(gradient, dim=tuple(features), dtype=torch.float64)
    norms = norms.to(gradient.dtype)
    if not packed:
        return norms
    sequence = PackedSequence(norms, *call.original[1:])
    return pad_packed_sequence(sequence, call.recurrence.batch_first)[0]
