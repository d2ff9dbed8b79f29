"""Several models in one native call: calls of one kernel that differ in some of their tensors.

Native code gets the problems of the first two models and finds those of all models from them
(`problem_of` in native/kernel.cpp). All tensors are therefore dense before the problems are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from seqcells.kernels.call import Call
from seqcells.kernels.checks import check
from seqcells.kernels.cpu import library, new_gradients, new_results
from seqcells.kernels.cpu.problem import backward_problem, forward_problem
from seqcells.kernels.cpu.storage import in_bfloat16, in_float32

Parts = TypeVar("Parts", bound=Sequence[Tensor | None])


def forward(call: Call, stacked: Sequence[bool], models: int, train: bool) -> list[Tensor]:
    """Return the results of `forward` of all models, stacked in a first dimension.

    Args:
        call: a call whose tensors have the models as first dimension where `stacked` says so, in
            the order of `Call.split`.
    """
    narrow = call.inputs.dtype is torch.bfloat16
    calls = _first_two(in_float32(call) if narrow else call, stacked, models)
    check(calls[0])
    results = new_results(calls[0], train, (models,))
    _run(
        "forward",
        models,
        [
            forward_problem(one, [part[n] for part in results], train)
            for n, one in enumerate(calls[:models])
        ],
    )
    return in_bfloat16(results, train) if narrow else results


def backward(
    call: Call,
    stacked: Sequence[bool],
    models: int,
    grads: Sequence[Tensor | None],
    outputs: Tensor,
    saved: Tensor,
    wanted: Sequence[bool],
    stacked_values: Sequence[Any],
) -> list[Tensor | None]:
    """Return the gradients of `call.tensors` of all models, stacked in a first dimension.

    `stacked_values` is like `stacked`, for `grads`, `outputs` and `saved`.
    """
    narrow = call.inputs.dtype is torch.bfloat16
    calls = _first_two(in_float32(call) if narrow else call, stacked, models)
    dense = [
        None if part is None else part.to(saved.dtype).contiguous()
        for part in (*grads, outputs, saved)
    ]
    of_grads, *of_values = stacked_values
    apart = [*of_grads, *of_values]
    results = new_gradients(calls[0], wanted, saved.dtype, (models,))
    problems = []
    for n, one in enumerate(calls[:models]):
        *upstream, own, values = _of_model(dense, apart, n, models)
        found = [None if part is None else part[n] for part in results]
        problems.append(backward_problem(one, upstream, own, values, found))
    _run("backward", models, problems)
    if narrow:
        return [None if part is None else part.to(torch.bfloat16) for part in results]
    return results


def _first_two(call: Call, stacked: Sequence[bool], models: int) -> list[Call]:
    """Return the calls of the first two models, with dense tensors."""
    layout, tensors = call._replace(
        lengths=None if call.lengths is None else call.lengths.to(torch.int64),
        batch_sizes=None if call.batch_sizes is None else call.batch_sizes.to(torch.int64),
    ).split()
    dense = [None if part is None else part.contiguous() for part in tensors]
    if call.batch_sizes is None and call.inputs.stride(-1) == 1:
        dense[0] = call.inputs  # rows may be strided
    return [
        Call.join(layout, _of_model(dense, stacked, n, models)) for n in (0, min(1, models - 1))
    ]


def _of_model(
    tensors: Sequence[Any], stacked: Sequence[bool], model: int, models: int
) -> list[Any]:
    """Return the tensors of one model; without models, empty ones of its shapes."""
    return [
        part
        if part is None or not apart
        else part[model]
        if models
        else part.new_empty(part.shape[1:])
        for part, apart in zip(tensors, stacked)
    ]


def _run(function: str, models: int, problems: list[Any]) -> None:
    if models:
        (first, references), (second, more) = problems[0], problems[-1]
        library.run_models(function, first, second, models)
        del references, more  # the call has ended
