"""Plain calls on the CPU: the arguments go to the kernel without records in between.

A step of a small cell takes the kernel one to four microseconds, and choosing a backend and
describing the call take many times as long. Calls without lengths, resets, noise or a projection,
by a cell that is built in, are the same in all that is decided. They are recognised here by every
condition that `choose` and `check` would test; anything else is left to them.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from seqcells.equations.catalogue import NUMBERS, PRODUCTS_ALONE, kind_of
from seqcells.kernels import cpu
from seqcells.kernels.call import Call
from seqcells.kernels.cpu import library
from seqcells.kernels.cpu.library import Problem
from seqcells.recurrence import choice
from seqcells.recurrence.autograd import differentiated, gradients, unobserved, watched
from seqcells.recurrence.request import Request


class Kernel(NamedTuple):
    """What a plain call needs to know of its kernel."""

    name: str
    number: int
    gates: int
    states: int
    saved: int  # values per unit and step


@functools.cache
def kernel_of(name: str) -> Kernel | None:
    """Return a kernel that takes a cell's weights as they are; None for another one."""
    if name not in PRODUCTS_ALONE:
        return None
    kind = kind_of(name)
    return Kernel(name, NUMBERS[name], kind.gates, kind.states, kind.kept)


def compute_plain(request: Request) -> list[Tensor] | None:
    """Return `[outputs, *final_state]`, of a single step the final state; None if not plain.

    The order of the conditions is that of their cost.
    """
    cell, weights, inputs, state, _, noise, lengths, sizes, resets, reverse, all_states = request
    if (
        torch.compiler.is_compiling()
        or noise is not None
        or lengths is not None
        or sizes is not None
        or resets is not None
        or all_states
        or choice._asked not in ("auto", "cpu")
        or choice.transformed()
        or torch.is_autocast_enabled("cpu")
        or watched()
        or cpu.unavailable() is not None
    ):
        return None
    name = cell.built_in_kernel()
    kernel = None if name is None else kernel_of(name)
    weight_ih, weight_hh, bias_ih, bias_hh, projection, _ = weights
    if kernel is None or projection is not None or weight_hh is None:
        return None
    hidden, other = state, None
    if kernel.states == 2:
        if not isinstance(state, tuple) or len(state) != 2:
            return None
        hidden, other = state
    if not isinstance(hidden, Tensor) or hidden.dim() != 2:
        return None
    rows, units = hidden.shape
    fused, dtype, features = kernel.gates * units, inputs.dtype, inputs.shape[-1]
    if (
        (dtype is not torch.float32 and dtype is not torch.float64)
        or inputs.shape != (*inputs.shape[:-2], rows, features)
        or inputs.dim() > 3
        or weight_ih.shape != (fused, features)
        or weight_hh.shape != (fused, units)
        or (other is not None and other.shape != (rows, units))
        or (bias_ih is not None and bias_ih.shape != (fused,))
        or (bias_hh is not None and bias_hh.shape != (fused,))
    ):
        return None
    training = torch.is_grad_enabled()
    wanted = not training
    for tensor in (inputs, hidden, other, weight_ih, weight_hh, bias_ih, bias_hh):
        if tensor is not None:
            kind = type(tensor)
            if (
                (kind is not Tensor and kind is not nn.Parameter)
                or tensor.dtype is not dtype
                or not tensor.is_cpu
                or not tensor.is_contiguous()
                or tensor.is_neg()
            ):
                return None
            wanted = wanted or tensor.requires_grad
    tensors = inputs, hidden, other, weight_ih, weight_hh, bias_ih, bias_hh
    if wanted and training:
        return list(PlainRecurrence.apply(kernel, reverse, *tensors))
    return _forward(kernel, reverse, tensors, False)


def _forward(kernel: Kernel, reverse: bool, tensors: tuple[Any, ...], train: bool) -> list[Tensor]:
    inputs, hidden, other = tensors[:3]
    problem = _problem(kernel, reverse, tensors)
    final = torch.empty_like(hidden)
    problem.final_state_0 = problem.outputs = final.data_ptr()
    results = [final]
    if other is not None:
        results.append(torch.empty_like(other))
        problem.final_state_1 = results[1].data_ptr()
    if inputs.dim() == 3:  # else the outputs are the final state
        outputs = torch.empty(*inputs.shape[:-1], hidden.shape[1], dtype=inputs.dtype)
        problem.outputs = outputs.data_ptr()
        results.insert(0, outputs)
    if train:
        width = kernel.saved * library.padded(hidden.shape[1])
        cells = problem.steps * problem.batch
        results.append(torch.empty(cells, width, dtype=inputs.dtype))
        problem.saved = results[-1].data_ptr()
    library.run("forward", problem)
    return results


def _problem(kernel: Kernel, reverse: bool, tensors: tuple[Any, ...]) -> Problem:
    """A call's sizes and what it reads, in the order of `Problem`."""
    inputs, hidden, other, weight_ih, weight_hh, bias_ih, bias_hh = tensors
    problem, shape = Problem(), inputs.shape
    batch, features = shape[-2:]
    problem.cell = kernel.number
    problem.is_double = inputs.dtype is torch.float64
    problem.threads = 1 if library.forked else torch.get_num_threads()
    problem.reverse = reverse
    problem.steps = 1 if len(shape) == 2 else shape[0]
    problem.batch = batch
    problem.gates = kernel.gates
    problem.input_size = problem.input_row = features
    problem.input_step = batch * features
    problem.hidden_size = hidden.shape[1]
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
    """A plain call, for autograd."""

    @staticmethod
    def forward(
        ctx: Any, kernel: Kernel, reverse: bool, *tensors: Tensor | None
    ) -> tuple[Tensor, ...]:
        *results, saved = _forward(kernel, reverse, tensors, True)
        ctx.set_materialize_grads(False)
        ctx.kernel, ctx.reverse = kernel, reverse
        ctx.save_for_backward(results[0], saved, *tensors)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        outputs, saved, *tensors = ctx.saved_tensors
        kernel, reverse, wanted = ctx.kernel, ctx.reverse, ctx.needs_input_grad[2:]
        if not differentiated(grads) and unobserved(grads):
            return None, None, *_backward(kernel, reverse, tensors, grads, outputs, saved, wanted)
        parts = kernel.states
        nothing: list[Any] = [None, None, [], None, None, [], None, None, None]
        rest = [*tensors[3:7], *nothing, reverse, False]
        call = Call(kernel.name, tensors[0], tensors[1 : 1 + parts], *rest)
        needed = [wanted[0], *wanted[1 : 1 + parts], *wanted[3:7], False, False]
        found = gradients(choice.BACKENDS["cpu"], call, grads, outputs, saved, needed)
        other = found[2] if parts > 1 else None
        return None, None, found[0], found[1], other, *found[1 + parts : 5 + parts]


def _backward(
    kernel: Kernel,
    reverse: bool,
    tensors: list[Any],
    grads: tuple[Tensor | None, ...],
    outputs: Tensor,
    saved: Tensor,
    wanted: tuple[bool, ...],
) -> list[Tensor | None]:
    """The gradients of the tensors; the state's are by-products, the weights' come together."""
    inputs, hidden, other, weight_ih, weight_hh, bias_ih, bias_hh = tensors
    problem = _problem(kernel, reverse, (*tensors,))
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
