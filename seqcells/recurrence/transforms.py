"""Calls under `vmap` and `grad` of torch.func.

`vmap` over weights, and gradients per sample, are several models: calls of one kernel that differ
in some of their tensors. They run in one native call (`kernels.cpu.models`), forward and backward.
A `vmap` over data alone, whose weight gradients are not per sample, adds rows to the batch.

Second derivatives differentiate the readable loop. It also computes calls under transforms that
kernels do not support, such as forward-mode differentiation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from seqcells.kernels import cpu
from seqcells.kernels.call import Call, Layout
from seqcells.kernels.checks import check
from seqcells.kernels.cpu import models
from seqcells.recurrence.autograd import batched, readable
from seqcells.recurrence.levels import Rule, is_reverse, last_grad, levels, requires_grad


def run_transformed(call: Call) -> list[Tensor]:
    """Run a call of the C++ kernels under transforms that they support."""
    if any(part is not None and requires_grad(part) for part in call.noise):
        return readable(call)
    layout, tensors = call.split()
    train = last_grad() >= 0 or (
        torch.is_grad_enabled()
        and any(part is not None and requires_grad(part) for part in tensors)
    )
    present = tuple(part is not None for part in tensors)
    given = (part for part in tensors if part is not None)
    results = _Forward.run(Transformed(layout, present, train, last_grad()), *given)
    return list(results[:-1] if train else results)


@dataclass(frozen=True)
class Transformed:
    """A call under transforms, without its tensors.

    Functions of this module pass only tensors that are not None: torch.func processes every
    argument several times.

    Attributes:
        present: for each tensor of `Call.split`, whether it is not None.
        train: whether the forward pass saves values.
        last_grad: index of the innermost `grad` among the transforms, -1 for none.
        models: number of models; None for a single call.
        stacked: for each tensor that is passed, whether its first dimension is that of the models.
        wanted: for each of `Call.tensors`, whether the backward pass returns its gradient.
        upstream: for each result, whether the backward pass gets its gradient.
    """

    layout: Layout
    present: tuple[bool, ...]
    train: bool
    last_grad: int
    models: int | None = None
    stacked: tuple[bool, ...] = ()
    wanted: tuple[bool, ...] = ()
    upstream: tuple[bool, ...] = ()

    def call(self, tensors: Sequence[Any]) -> Call:
        """Return the call of these tensors, or of one value for each of them."""
        return Call.join(self.layout, expanded(self.present, tensors))

    def stack(
        self, size: int, dims: Sequence[int | None], tensors: Sequence[Tensor]
    ) -> tuple[Transformed, list[Tensor]]:
        """Turn the dimension of a `vmap` into models. It precedes that of an inner `vmap`."""
        inner = self.models
        flags = self.stacked or (False,) * len(dims)
        stacked = tuple(dim is not None or flag for dim, flag in zip(dims, flags))
        moved = []
        for part, dim, flag in zip(tensors, dims, flags):
            if dim is not None:
                part = part.movedim(dim, 0)
            if inner is not None and (dim is not None or flag):
                if dim is None:
                    part = part.expand(size, *part.shape)
                if not flag:
                    part = part.unsqueeze(1).expand(size, inner, *part.shape[1:])
                part = part.flatten(0, 1)
            moved.append(part)
        count = size if inner is None else size * inner
        return replace(self, models=count, stacked=stacked), moved

    def unstack(self, size: int, results: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Separate the dimension that `stack` has added from that of an inner `vmap`."""
        if self.models is None:
            return tuple(results)
        return tuple(part.unflatten(0, (size, self.models)) for part in results)

    def adds_rows(self, dims: Sequence[int | None]) -> bool:
        """Return whether a `vmap` adds rows to the batch. It must not be active itself."""
        call = self.call(dims)
        return (
            self.models is None
            and not self.present[-2]  # packed inputs
            and all(dim is None for dim in call.weights)
            and len(levels()) > self.last_grad
        )

    def split(self, tensors: Sequence[Any]) -> tuple[list[Any], list[Any], Any, Any]:
        """Return a backward pass's tensors, gradients of all results, outputs and saved tensor."""
        *others, outputs, saved = tensors
        count = sum(self.present)
        return others[:count], expanded(self.upstream, others[count:]), outputs, saved


def expanded(present: Sequence[bool], values: Sequence[Any]) -> list[Any]:
    """Return a list with these values where they are present, else None."""
    remaining = iter(values)
    return [next(remaining) if is_present else None for is_present in present]


class _Forward(Rule):
    """A call under transforms. If it trains, its last result is the saved tensor."""

    @staticmethod
    def forward(transformed: Transformed, *tensors: Tensor) -> tuple[Tensor, ...]:
        call, count = transformed.call(tensors), transformed.models
        if count is not None:
            stacked = expanded(transformed.present, transformed.stacked)
            return tuple(models.forward(call, stacked, count, transformed.train))
        check(call)
        return tuple(cpu.forward(call, train=transformed.train))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.transformed, *tensors = inputs
        ctx.set_materialize_grads(False)
        if not ctx.transformed.train:  # no gradient is required
            return
        ctx.mark_non_differentiable(output[-1])
        ctx.save_for_backward(*tensors, output[0], output[-1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        transformed, saved = ctx.transformed, ctx.saved_tensors
        needed = ctx.needs_input_grad[1:]
        present = [grad for grad in grads[:-1] if grad is not None]
        if not present:
            return None, *[None] * len(needed)
        call = transformed.call(needed)
        wanted = tuple(bool(need) for need in call.tensors)
        upstream = tuple(grad is not None for grad in grads[:-1])
        stacked = transformed.stacked
        if stacked:
            stacked = (*stacked, *[True] * len(present), True, True)
        backward = replace(transformed, wanted=wanted, upstream=upstream, stacked=stacked)
        given = [*saved[:-2], *present, *saved[-2:]]
        if is_reverse() and not batched(present):
            found = iter(_Backward.run(backward, *given))
        else:
            found = iter(_readable_gradients(backward, *given))
        gradients: list[Tensor | None] = [None]
        for number, need in enumerate(needed):
            grad = next(found) if need else None
            if grad is not None and stacked and not stacked[number]:  # models share the tensor
                grad = grad.sum(0)
            gradients.append(grad)
        return tuple(gradients)

    @staticmethod
    def batch(
        size: int, dims: Sequence[int | None], transformed: Transformed, tensors: Sequence[Tensor]
    ) -> tuple[Sequence[Tensor], Sequence[int | None]]:
        if transformed.adds_rows(dims):
            return _run_as_rows(size, dims, transformed, tensors)
        stacked, moved = transformed.stack(size, dims, tensors)
        results = transformed.unstack(size, _Forward.run(stacked, *moved))
        return results, [0] * len(results)


class _Backward(Rule):
    """The wanted gradients of a call under transforms, of all models if there are several."""

    @staticmethod
    def forward(transformed: Transformed, *tensors: Tensor) -> tuple[Tensor, ...]:
        parts, grads, outputs, saved = transformed.split(tensors)
        call, wanted, count = transformed.call(parts), transformed.wanted, transformed.models
        if count is None:
            found = cpu.backward(call, grads, outputs, saved, wanted)
        else:
            of_parts, *others = transformed.split(transformed.stacked)
            stacked = expanded(transformed.present, of_parts)
            found = models.backward(call, stacked, count, grads, outputs, saved, wanted, others)
        return tuple(grad for grad, want in zip(found, wanted) if want and grad is not None)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.transformed, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Differentiate the readable loop: the saved tensor has no gradient."""
        transformed, tensors = ctx.transformed, ctx.saved_tensors
        needed = ctx.needs_input_grad[1:-2]
        places = [number for number, need in enumerate(needed) if need]

        def gradients(*leaves: Tensor) -> tuple[Tensor, ...]:
            return _readable_gradients(transformed, *_replaced(tensors, places, leaves))

        pull: Any = torch.func.vjp(gradients, *(tensors[number] for number in places))[1]
        found: list[Tensor | None] = [None] * len(tensors)
        for number, grad in zip(places, pull(grads)):
            found[number] = grad
        return None, *found

    @staticmethod
    def batch(
        size: int, dims: Sequence[int | None], transformed: Transformed, tensors: Sequence[Tensor]
    ) -> tuple[Sequence[Tensor], Sequence[int | None]]:
        stacked, moved = transformed.stack(size, dims, tensors)
        results = transformed.unstack(size, _Backward.run(stacked, *moved))
        return results, [0] * len(results)


def _run_as_rows(
    size: int, dims: Sequence[int | None], transformed: Transformed, tensors: Sequence[Any]
) -> tuple[tuple[Tensor, ...], Any]:
    """Run a call whose batch has the rows of all samples of a `vmap`."""
    call = transformed.call(tensors)
    states, weights = [0] * len(call.state), [None] * len(call.weights)
    noise = [-2] * len(call.noise)
    dim_of_rows = [1, *states, *weights, *[0] * len(call.fresh), *noise, 0, None, 1]
    rows = [row for row, is_present in zip(dim_of_rows, transformed.present) if is_present]
    joined = []
    for part, dim, row in zip(tensors, dims, rows):
        if row is not None:
            part = part.expand(size, *part.shape) if dim is None else part.movedim(dim, 0)
            row = row % (part.dim() - 1)
            part = part.movedim(0, row).flatten(row, row + 1)
        joined.append(part)
    results = list(_Forward.run(transformed, *joined))
    saved = [results.pop()] if transformed.train else []
    places = [1, *states, *[1] * (len(results) - 1 - len(states))]
    separate = [
        part.unflatten(row, (size, part.shape[row] // size)) for part, row in zip(results, places)
    ]
    return (*separate, *saved), (*places, *[None] * len(saved))


def _readable_gradients(transformed: Transformed, *tensors: Any) -> tuple[Tensor, ...]:
    """Return the results of `_Backward` by the readable loop, for every transform."""
    wanted = expanded(transformed.present, range(sum(transformed.present)))
    places = [place for place, want in zip(wanted, transformed.wanted) if want]

    def gradients(*tensors: Tensor) -> tuple[Tensor, ...]:
        parts, grads, _, _ = transformed.split(tensors)

        def run(*leaves: Tensor) -> tuple[Tensor, ...]:
            results = readable(transformed.call(_replaced(parts, places, leaves)))
            return tuple(part for part, grad in zip(results, grads) if grad is not None)

        pull: Any = torch.func.vjp(run, *(parts[place] for place in places))[1]
        found: tuple[Tensor, ...] = pull(tuple(grad for grad in grads if grad is not None))
        return found

    if transformed.models is None:
        return gradients(*tensors)
    dims = tuple(0 if apart else None for apart in transformed.stacked)
    return torch.vmap(gradients, dims)(*tensors)


def _replaced(tensors: Sequence[Any], places: Sequence[int], values: Sequence[Any]) -> list[Any]:
    """Return the tensors with those at these places replaced."""
    found = list(tensors)
    for place, value in zip(places, values):
        found[place] = value
    return found
