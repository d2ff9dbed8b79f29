"""A cell's state: a tensor, or a NamedTuple, tuple or list of states, each tensor batch first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

State = Any


def map_state(function: Callable[..., Any], state: State, *others: State) -> State:
    """Apply `function` to each tensor of `state` and the corresponding tensors of `others`."""
    if isinstance(state, Tensor):
        return function(state, *others)
    if not isinstance(state, (tuple, list)):
        raise TypeError(
            f"expected a state made of tensors, tuples and lists, got {type(state).__name__}"
        )
    return _rebuild(
        state, [map_state(function, *parts) for parts in zip(state, *others, strict=True)]
    )


def first_tensor(state: State) -> Tensor:
    """Return the state's first tensor, by default a cell's output."""
    while not isinstance(state, Tensor):
        if not isinstance(state, (tuple, list)) or not state:
            raise TypeError(
                f"expected a state made of tensors, tuples and lists, got {type(state).__name__}"
            )
        state = state[0]
    return state


def flat_state(state: State) -> list[Tensor]:
    """Return the tensors of a state without nested states; an empty list for None."""
    if state is None:
        return []
    return [state] if isinstance(state, Tensor) else list(state)


def form_state(form: State, parts: list[Tensor]) -> State:
    """Return a state of these tensors with the structure of `form`: the inverse of `flat_state`."""
    if isinstance(form, Tensor):
        return parts[0]
    return type(form)(*parts) if hasattr(form, "_fields") else type(form)(parts)


def detach_state(state: State) -> State:
    """Detach a state from its graph, for truncated backpropagation through time."""
    return map_state(Tensor.detach, state)


def select_state(mask: Tensor, chosen: State, other: State) -> State:
    """Return the rows of `chosen` where `mask (B,)` is true, and of `other` elsewhere."""

    def select(left: Tensor, right: Tensor) -> Tensor:
        return torch.where(mask.reshape(-1, *[1] * (left.dim() - 1)), left, right)

    return map_state(select, chosen, other)


def conform_state(state: State, expected: State, name: str = "state") -> State:
    """Validate `state` against `expected`, and return it with the tuple types of `expected`.

    Raises:
        TypeError: a tensor in place of a tuple, or the reverse.
        ValueError: a different number of parts, shape or dtype.
    """
    if isinstance(expected, Tensor):
        if not isinstance(state, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(state).__name__}")
        if state.shape != expected.shape:
            raise ValueError(
                f"{name}: expected shape {tuple(expected.shape)}, got {tuple(state.shape)}"
            )
        check_dtype(state, expected.dtype, name)
        return state
    if not isinstance(state, (tuple, list)):
        raise TypeError(
            f"{name}: expected a tuple of {len(expected)} tensors, got {type(state).__name__}"
        )
    if len(state) != len(expected):
        raise ValueError(f"{name}: expected {len(expected)} parts, got {len(state)}")
    names = getattr(expected, "_fields", range(len(expected)))
    return _rebuild(
        expected,
        [
            conform_state(part, expected_part, f"{name}.{field}")
            for part, expected_part, field in zip(state, expected, names)
        ],
    )


def check_dtype(tensor: Tensor, expected: torch.dtype, name: str) -> None:
    """Raise a ValueError unless `tensor` has the dtype of the weights or autocast is on."""
    if tensor.dtype != expected and not autocast(tensor):
        raise ValueError(
            f"{name}: expected {expected}, the dtype of the weights, got {tensor.dtype}; "
            f"convert it with .to({expected}), or the module"
        )


def autocast(tensor: Tensor) -> bool:
    """Whether autocast is on for the tensor's device."""
    if tensor.is_cpu:
        return torch.is_autocast_enabled("cpu")
    kind = tensor.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def _rebuild(form: State, parts: list[Any]) -> State:
    return type(form)(*parts) if hasattr(form, "_fields") else type(form)(parts)
