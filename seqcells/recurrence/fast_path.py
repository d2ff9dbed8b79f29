"""Fast path of plain calls on the CPU.

A kernel computes a step of a small cell in one to four microseconds. Choosing a backend and
describing the call take several times as long. A call is plain if it has no lengths, resets, noise
or projection, and its cell is built in; in bfloat16, if it also records no gradient; under
autocast, if it is a single step that records none and has weights in float32 or float64.

The first such call validates every condition that `choose` and `check` test, and caches a `Plan`.
Later calls compare their tensors with the plan in one native call.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqcells.compatibility import is_transformed
from seqcells.kernels.call import Call
from seqcells.kernels.cpu import library, memory, packed
from seqcells.kernels.cpu.library import Problem
from seqcells.recurrence import choice
from seqcells.recurrence.autograd import differentiated, gradients, is_observed, unobserved
from seqcells.recurrence.brief_steps import BRIEF, REDUCED
from seqcells.recurrence.plan import Plan, Tensors, distinct, plan_of
from seqcells.recurrence.request import Request

# Keys: id of weight_ih, number of tensors, whether inputs and state require gradients. A plan holds
# no tensor and is valid for every call that its guard admits, so a reused id does no harm.
PLANS: dict[tuple[int, int, bool, bool], Plan] = {}
MOST_PLANS = 1024


def compute_plain(request: Request) -> list[Tensor] | None:
    """Return `[outputs, *final_state]`, or `final_state` of a single step; None if not plain."""
    cell, weights, inputs, state, _, noise, lengths, sizes, resets, reverse, all_states = request
    casts = torch.is_autocast_enabled("cpu")
    if (
        torch.compiler.is_compiling()
        or noise is not None
        or lengths is not None
        or sizes is not None
        or resets is not None
        or all_states
        or choice._requested not in ("auto", "cpu")
        or is_transformed()
        or (casts and inputs.dim() == 3)
        or is_observed()
    ):
        return None
    name = cell.built_in_kernel()
    weight_ih, weight_hh, bias_ih, bias_hh, projection, _ = weights
    if name is None or projection is not None or weight_hh is None:
        return None
    hidden, other = state, None
    if isinstance(state, tuple):
        if len(state) != 2:
            return None
        hidden, other = state
    # PyTorch's last operation in a step of these cells has autocast's dtype.
    rounds = casts and name in BRIEF and weight_ih.dtype is torch.float32
    if rounds:
        inputs, hidden = _widened(inputs), _widened(hidden)
    tensors = inputs, hidden, other, weight_ih, weight_hh, bias_ih, bias_hh
    compared = distinct(tensors)
    key = id(weight_ih), len(compared), inputs.requires_grad, hidden.requires_grad
    plan = PLANS.get(key)
    if plan is None or plan.kernel.name != name or not plan.admits(*compared):
        plan = plan_of(name, tensors)
        if plan is None:
            return None
        if len(PLANS) >= MOST_PLANS:
            PLANS.clear()
        PLANS[key] = plan
    if inputs.shape[-2] != hidden.shape[0] or not inputs.is_contiguous():
        return None
    if other is not None and other.shape[0] != hidden.shape[0]:
        return None
    recorded = plan.requires_grad and torch.is_grad_enabled()
    if (recorded and (plan.quantized or casts)) or (plan.narrow and (recorded or casts)):
        return None
    if recorded:
        return list(record(plan, reverse, *tensors))
    if plan.narrow:
        rest = [part if part is None else part.float() for part in (other, bias_ih, bias_hh)]
        tensors = inputs.float(), hidden.float(), rest[0], weight_ih, weight_hh, rest[1], rest[2]
    results = _forward(plan, reverse, tensors, False)
    if plan.narrow or rounds:
        dtype = torch.bfloat16 if plan.narrow else torch.get_autocast_dtype("cpu")
        return [part.to(dtype) for part in results]
    return results


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in REDUCED else tensor


def _forward(plan: Plan, reverse: bool, tensors: Tensors, train: bool) -> list[Tensor]:
    inputs, hidden, other = tensors[:3]
    problem = _problem(plan, reverse, tensors)
    results = []
    if inputs.dim() == 3:
        results.append(inputs.new_empty(*inputs.shape[:-1], hidden.shape[1]))
    final = torch.empty_like(hidden)
    problem.final_state_0 = final.data_ptr()
    results.append(final)
    problem.outputs = results[0].data_ptr()  # of a single step, the final state
    if other is not None:
        final = torch.empty_like(other)
        problem.final_state_1 = final.data_ptr()
        results.append(final)
    if train:
        width = plan.kernel.saved * library.padded(hidden.shape[1])
        shape = problem.steps * problem.batch, width
        results.append(memory.empty(inputs, shape, inputs.dtype))
        problem.saved = results[-1].data_ptr()
    if plan.quantized:
        packed.attach(problem, plan.kernel.name, tensors[3], tensors[4])
    library.run("forward", problem)
    return results


def _problem(plan: Plan, reverse: bool, tensors: Tensors) -> Problem:
    """Describe a call's varying sizes and the tensors that it reads."""
    inputs, hidden, other, weight_ih, weight_hh, bias_ih, bias_hh = tensors
    problem, shape = Problem.from_buffer_copy(plan.template), inputs.shape
    rows = shape[-2]
    problem.threads = library.thread_count()
    problem.reverse = reverse
    problem.steps = 1 if len(shape) == 2 else shape[0]
    problem.batch = rows
    problem.input_step = rows * plan.features
    problem.inputs = inputs.data_ptr()
    problem.weight_ih = weight_ih.data_ptr()
    problem.weight_hh = weight_hh.data_ptr()
    if bias_ih is not None:
        problem.bias_ih = bias_ih.data_ptr()
    if bias_hh is not None:
        problem.bias_hh = bias_hh.data_ptr()
    problem.state_0 = hidden.data_ptr()
    if other is not None:
        problem.state_1 = other.data_ptr()
    return problem


class PlainRecurrence(torch.autograd.Function):
    """A plain call as an autograd function."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, reverse: bool, *tensors: Any) -> tuple[Tensor, ...]:
        *results, saved = _forward(plan, reverse, tensors, True)
        ctx.set_materialize_grads(False)
        ctx.plan, ctx.reverse = plan, reverse
        ctx.save_for_backward(results[0], saved, *tensors)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        outputs, saved, *tensors = ctx.saved_tensors
        plan, reverse, wanted = ctx.plan, ctx.reverse, ctx.needs_input_grad[2:]
        if not differentiated(grads) and unobserved(grads):
            return None, None, *_backward(plan, reverse, tensors, grads, outputs, saved, wanted)
        kernel = plan.kernel
        parts = kernel.states
        nothing: list[Any] = [None, None, [], None, None, [], None, None, None]
        rest = [*tensors[3:7], *nothing, reverse, False]
        call = Call(kernel, tensors[0], tensors[1 : 1 + parts], *rest)
        needed = [wanted[0], *wanted[1 : 1 + parts], *wanted[3:7], False, False]
        found = gradients(choice.BACKENDS["cpu"], call, grads, outputs, saved, needed)
        other = found[2] if parts > 1 else None
        return None, None, found[0], found[1], other, *found[1 + parts : 5 + parts]


def _backward(
    plan: Plan,
    reverse: bool,
    tensors: Any,
    grads: tuple[Tensor | None, ...],
    outputs: Tensor,
    saved: Tensor,
    wanted: tuple[bool, ...],
) -> list[Tensor | None]:
    """Return the gradients of the tensors.

    The kernel always computes those of the state, and those of all weights or none.
    """
    inputs, hidden, other, weight_ih, weight_hh, bias_ih, bias_hh = tensors
    problem = _problem(plan, reverse, tensors)
    problem.outputs, problem.saved = outputs.data_ptr(), saved.data_ptr()
    dense = [None if grad is None else grad.contiguous() for grad in grads]
    if inputs.dim() == 3:
        upstream, *final = dense
        if upstream is not None:
            problem.grad_step, problem.grad_row, _ = upstream.stride()
            problem.grad_outputs = upstream.data_ptr()
    else:
        final = dense
    if final[0] is not None:
        problem.grad_final_0 = final[0].data_ptr()
    grad_hidden = torch.empty_like(hidden)
    problem.grad_state_0 = grad_hidden.data_ptr()
    found: list[Tensor | None] = [None, grad_hidden, None, None, None, None, None]
    if other is not None:
        if final[1] is not None:
            problem.grad_final_1 = final[1].data_ptr()
        found[2] = grad = torch.empty_like(other)
        problem.grad_state_1 = grad.data_ptr()
    if wanted[0]:
        found[0] = grad = torch.empty_like(inputs)
        problem.grad_inputs = grad.data_ptr()
    if wanted[3] or wanted[4] or wanted[5] or wanted[6]:
        found[3] = grad = torch.empty_like(weight_ih)
        problem.grad_weight_ih = grad.data_ptr()
        found[4] = grad = torch.empty_like(weight_hh)
        problem.grad_weight_hh = grad.data_ptr()
        if bias_ih is not None:
            found[5] = grad = torch.empty_like(bias_ih)
            problem.grad_bias_ih = grad.data_ptr()
        if bias_hh is not None:
            found[6] = grad = torch.empty_like(bias_hh)
            problem.grad_bias_hh = grad.data_ptr()
    library.run("backward", problem)
    return found


# `Function.apply` without its handling of torch.func: a plain call is under no transform.
record = super(torch.autograd.Function, PlainRecurrence).apply
