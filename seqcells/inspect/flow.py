"""How much of the loss's gradient reaches each time step."""

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
    """One call of a recurrence: what it was given, and the copy of it that the gradient is of."""

    name: str
    recurrence: Recurrent | nn.RNNBase
    given: Tensor | PackedSequence
    watched: Tensor


def gradient_flow(
    model: nn.Module, *batch: Any, loss: Callable[[Any], Tensor] | None = None, **options: Any
) -> dict[str, Tensor]:
    """The norm of the loss's gradient at the input of each recurrence, at every time step.

    It runs `model(*batch, **options)` in the mode that the model is in, and differentiates
    `loss(result)`. Recurrences are `Recurrent`, seqcells' layers and `torch.nn`'s; layers count as
    one, whatever their depth and directions. Whether the path is fast or readable stays as it is
    without this function. Gradients of parameters, buffers, hooks and torch's random state (on the
    CPU and CUDA) are afterwards what they were before, also after an error.

    What the norm says: a step of a plain RNN, `h_t = phi(a_t)`, `a_t = W_ih x_t + W_hh h_{t-1}`,
    takes `d_t = dL/da_t` and hands `W_ih^T d_t = dL/dx_t` to the input and `W_hh^T d_t` to the
    state before it: to `dL/dh_{t-1}`, of which it is all where only the last step has a loss. Each
    is one product away from `d_t`, so that over time both vanish or both explode:
    `d_{t-1} = phi'(a_{t-1}) * W_hh^T d_t` shrinks by the largest singular value of `W_hh` or more
    where that is below one, and can grow where it is above (Bengio et al. 1994, Pascanu et al.
    2013). In a gated cell the state's gradient also has a way past the product (`f * c'`,
    `z * h'`), and the input sees it through the gate that lets in: where that is nearly shut,
    `dL/dx_t` is small although the state's gradient is not. What float32 cannot hold is zero.

    Args:
        model: a recurrence, or a model with recurrences in it.
        batch: what the model is called with.
        options: likewise, by name.
        loss: from the model's result to a scalar. By default the sum of the final hidden state
            (of the last layer, in its every direction) where the model is itself a recurrence or
            a `Stack`, and the sum of its output where another model returns a tensor.

    Returns:
        By the recurrence's name in `model.named_modules()` (the model itself by its class's name)
        the norms over features, laid out as its input: `(T, B)`, with `batch_first` `(B, T)`,
        without a batch `(T,)`. Packed input comes back padded. Past each length, and wherever
        else the loss does not reach, they are zero. What passes beside a recurrence, as in a
        residual connection, is not in them. A recurrence's further calls are `name:2`, `name:3`.

    Raises:
        TypeError: a model that is no module; a loss that is no tensor; a recurrence on integers.
        ValueError: a model without a recurrence or that calls none; a result that needs a `loss`;
            a loss that is no scalar or does not depend on anything with a gradient.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    calls: list[_Call] = []
    with _unchanged(model), ExitStack() as hooks, torch.enable_grad():
        for name, recurrence in _recurrences(model).items():
            watch = partial(_watch, calls, name)
            hooks.enter_context(recurrence.register_forward_pre_hook(watch, with_kwargs=True))
        result = model(*batch, **options)
        if not calls:
            raise ValueError(
                "model: expected one that calls a recurrence in it, as a module and not by its "
                "forward; got no such call"
            )
        value = _default_loss(model, result) if loss is None else loss(result)
        _check_loss(value)
        watched = [call.watched for call in calls]
        gradients = torch.autograd.grad(value, watched, materialize_grads=True)
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
            f"it, got {model}; a cell goes into a Recurrent"
        )
    return found


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Put the model's buffers and the random state back as they were."""
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


def _watch(
    calls: list[_Call],
    name: str,
    recurrence: Recurrent | nn.RNNBase,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """A forward pre-hook: give the recurrence a copy of its input, and keep that."""
    place = None if args else next((key for key in ("inputs", "input") if key in kwargs), None)
    if not args and place is None:
        return None
    given = kwargs[place] if place else args[0]
    data = given.data if isinstance(given, PackedSequence) else given
    if not isinstance(data, Tensor):
        return None
    if not data.is_floating_point():
        raise TypeError(
            f"{name}: expected floating-point inputs, got {data.dtype}, which has no gradient"
        )
    watched = data.clone()
    if not watched.requires_grad:
        watched.requires_grad_()
    count = 1 + sum(call.recurrence is recurrence for call in calls)
    calls.append(_Call(name if count == 1 else f"{name}:{count}", recurrence, given, watched))
    copy = PackedSequence(watched, *given[1:]) if isinstance(given, PackedSequence) else watched
    return (args, {**kwargs, place: copy}) if place else ((copy, *args[1:]), kwargs)


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
        "loss: expected one for a model that returns no tensor, from its result to a scalar; "
        f"got none, and {type(result).__name__} from the model"
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
    """Over features; summed in float64, where the square of what has nearly vanished still is."""
    packed = isinstance(call.given, PackedSequence)
    features = range(1 if packed or gradient.dim() == 2 else 2, gradient.dim())
    norms = torch.linalg.vector_norm(gradient, dim=tuple(features), dtype=torch.float64)
    norms = norms.to(gradient.dtype)
    if not packed:
        return norms
    return pad_packed_sequence(PackedSequence(norms, *call.given[1:]), call.recurrence.batch_first)[
        0
    ]
