"""The active transforms of torch.func and forward-mode differentiation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seqcells.compatibility import (
    GRAD,
    VMAP,
    SingleLevelFunction,
    are_transforms_active,
    current_transform,
    dispatch_modes,
    function_modes,
    functorch,
    is_forward_mode,
    single_level,
    tracing_state,
    with_forward_gradients,
)


def is_reverse() -> bool:
    """Return whether all active transforms are `vmap` or reverse-mode differentiation."""
    if is_forward_mode():
        return False
    return all(level.key() in (GRAD, VMAP) for level in levels())


def are_supported() -> bool:
    """Return whether kernels on the CPU support the transforms, and no mode observes the call."""
    return (
        is_reverse() and dispatch_modes() == 0 and function_modes() == 0 and tracing_state() is None
    )


def levels() -> Sequence[Any]:
    """Return the active transforms of torch.func, the outermost first."""
    return functorch.get_interpreter_stack() or ()


def last_grad() -> int:
    """Return the index of the innermost reverse-mode differentiation; -1 for none."""
    keys = [level.key() for level in levels()]
    return max((n for n, key in enumerate(keys) if key == GRAD), default=-1)


def requires_grad(tensor: Tensor) -> bool:
    """Return whether a transform, or autograd itself, differentiates by a tensor."""
    while not tensor.requires_grad:
        if not functorch.is_functorch_wrapped_tensor(tensor):
            return False
        tensor = functorch.get_unwrapped(tensor)
    return True


class Rule(torch.autograd.Function):
    """An autograd function of a static value and tensors, with a rule for `vmap`.

    `run` is `apply` under any `vmap` and reverse-mode differentiation. torch's own `apply` takes
    about a millisecond per transform, as long as a kernel computes several models.
    """

    at_level: Any

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.at_level = _at_level(cls)

    @classmethod
    def run(cls, static: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the results of the function under the active transforms."""
        tensors = tuple(map(functorch.unwrap_if_dead, tensors))
        if not are_transforms_active():
            return _apply(cls, static, *tensors)
        level = current_transform()
        if level.key() == GRAD:
            lifted = map(level._cptr.lift, tensors)
            with single_level():
                return cls.at_level.apply((level, static), *lifted)
        number, size = level.level(), level.batch_size()
        unwrapped = [functorch._unwrap_batched(tensor, number) for tensor in tensors]
        parts, dims = zip(*unwrapped)
        with level.lower():
            if all(dim is None for dim in dims):
                return cls.run(static, *parts)
            results, dims_of_results = cls.batch(size, dims, static, parts)
        return tuple(
            part if dim is None else functorch._add_batch_dim(part, dim, number)
            for part, dim in zip(results, dims_of_results)
        )

    @staticmethod
    def batch(
        size: int, dims: Sequence[int | None], static: Any, tensors: Sequence[Tensor]
    ) -> tuple[Sequence[Tensor], Sequence[int | None]]:
        """Return the results of a `vmap` over these dimensions, and their dimensions."""
        raise NotImplementedError


def _apply(rule: type[Rule], *arguments: Any) -> tuple[Tensor, ...]:
    """`Function.apply` without its handling of torch.func."""
    function: Any = super(torch.autograd.Function, rule)
    results: tuple[Tensor, ...] = function.apply(*arguments)
    return results


def _at_level(rule: type[Rule]) -> type[SingleLevelFunction]:
    """Return the rule as a function that one reverse-mode differentiation records."""

    class AtLevel(SingleLevelFunction):
        @staticmethod
        def forward(context: tuple[Any, Any], *tensors: Tensor) -> tuple[Tensor, ...]:
            level, static = context
            number = level.level()
            lower = [functorch._unwrap_for_grad(tensor, number) for tensor in tensors]
            with torch.enable_grad(), with_forward_gradients(True), level.lower():
                results = rule.run(static, *lower)
            return tuple(functorch._wrap_for_grad(result, number) for result in results)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            (_, static), *tensors = inputs
            rule.setup_context(ctx, (static, *tensors), output)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return rule.backward(ctx, *grads)

    AtLevel.__name__ = f"{rule.__name__}AtLevel"
    return AtLevel
