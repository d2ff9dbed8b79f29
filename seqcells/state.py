"""A cell's state: a tensor, or a NamedTuple, tuple or list of states, each tensor batch first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seqcells.compatibility import has_autocast

State = Any


def map_state(function: Callable[..., Any], state: State, *others: State) -> State:
    """Apply `function` to each tensor of `state` and the corresponding tensors of `others`."""
    if isinstance(state, Tensor):
        return function(state, *others)
    if not isinstance(state, (tuple, list)):
        raise TypeError(
            f"expected a state of tensors, tuples and lists, got {type(state).__name__}; return a "
            "tensor or a tuple of tensors from the cell"
        )
    return rebuild(
        state, [map_state(function, *parts) for parts in zip(state, *others, strict=True)]
    )


def first_tensor(state: State) -> Tensor:
    """Return the state's first tensor, by default a cell's output."""
    while not isinstance(state, Tensor):
        if not isinstance(state, (tuple, list)) or not state:
            raise TypeError(
                f"expected a state of tensors, tuples and lists, got {type(state).__name__}; "
                "return a tensor or a tuple of tensors from the cell"
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
    """Return the rows of `chosen` where `mask (B,)` is true, and of `other` elsewhere.

    Raises:
        ValueError: the states differ in structure or shape, or have another number of rows.
    """

    def select(left: Tensor, right: Tensor) -> Tensor:
        return torch.where(mask.reshape(-1, *[1] * (left.dim() - 1)), left, right)

    try:
        return map_state(select, chosen, other)
    except (RuntimeError, TypeError, ValueError) as error:
        found = describe(chosen), describe(other)
        if found[0] == found[1]:
            raise  # another cause
        raise ValueError(
            f"state: expected states of one shape with {len(mask)} rows, for lengths and resets, "
            f"got {found[0]} and {found[1]}; return a state of one shape at every step"
        ) from error


def conform_state(state: State, expected: State, name: str = "state") -> State:
    """Validate `state` against `expected`, and return it with the tuple types of `expected`.

    Raises:
        TypeError: a tensor in place of a tuple, or the reverse.
        ValueError: a different number of parts, shape or dtype.
    """
    if isinstance(expected, Tensor):
        if not isinstance(state, Tensor):
            raise TypeError(
                f"{name}: expected a tensor, got {type(state).__name__}; pass a tensor of shape "
                f"{tuple(expected.shape)}"
            )
        if state.shape != expected.shape:
            raise ValueError(
                f"{name}: expected shape {tuple(expected.shape)}, got {tuple(state.shape)}; pass a "
                "state for the batch of this input, or None to start from the initial state"
            )
        check_dense(state, name)
        check_dtype(state, expected.dtype, name)
        return state
    if not isinstance(state, (tuple, list)):
        raise TypeError(
            f"{name}: expected a tuple of {len(expected)} tensors, got {type(state).__name__}; "
            f"pass {describe(expected)}"
        )
    if len(state) != len(expected):
        raise ValueError(
            f"{name}: expected {len(expected)} parts, got {len(state)}; pass {describe(expected)}"
        )
    names = getattr(type(expected), "_fields", range(len(expected)))
    return rebuild(
        expected,
        [
            conform_state(part, expected_part, f"{name}.{field}")
            for part, expected_part, field in zip(state, expected, names)
        ],
    )


def check_dense(tensor: Tensor, name: str) -> None:
    """Raise a ValueError for a sparse tensor or a nested tensor of ragged rows."""
    if tensor.layout is not torch.strided:
        advice = "convert it with .to_dense()"
        if tensor.is_nested:
            advice = "pad it with .to_padded_tensor(0.0) and pass lengths"
        raise ValueError(f"{name}: expected a dense tensor, got layout {tensor.layout}; {advice}")


def check_dtype(tensor: Tensor, expected: torch.dtype, name: str) -> None:
    """Raise a ValueError unless `tensor` has the dtype of the weights, or autocast converts it.

    Autocast converts floating-point tensors, except those of float64.
    """
    if tensor.dtype == expected:
        return
    converts = tensor.is_floating_point() and torch.float64 not in (tensor.dtype, expected)
    if converts and autocast(tensor):
        return
    is_input, advice = name.startswith("input"), f"convert it with .to({expected})"
    if tensor.is_complex():
        advice = "pass its real part"
        if is_input:
            advice = "pass real and imaginary parts as features: torch.view_as_real(x).flatten(-2)"
    elif tensor.is_floating_point():
        advice += f", or the module with .to({tensor.dtype})"
    elif is_input:
        advice = f"embed token ids with torch.nn.Embedding, or convert numbers with .to({expected})"
    raise ValueError(
        f"{name}: expected {expected}, the dtype of the weights, got {tensor.dtype}; {advice}"
    )


def autocast(tensor: Tensor) -> bool:
    """Whether autocast is on for the tensor's device."""
    if tensor.is_cpu:
        return torch.is_autocast_enabled("cpu")
    kind = tensor.device.type
    return has_autocast(kind) and torch.is_autocast_enabled(kind)


def describe(value: Any) -> str:
    """Return the structure and the shapes of a state or another value, for error messages."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, (tuple, list)):
        parts = ", ".join(describe(part) for part in value)
        return f"a {type(value).__name__} of {len(value)}" + (f" ({parts})" if parts else "")
    return "None" if value is None else f"a value of type {type(value).__name__}"


def rebuild(form: State, parts: list[Any]) -> State:
    """Return nested parts in the tuple type of `form`."""
    return type(form)(*parts) if hasattr(form, "_fields") else type(form)(parts)
