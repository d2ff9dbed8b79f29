"""Run the kernels, and the products over whole sequences before and after them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
import triton.language as tl
from torch import Tensor
from triton.runtime.errors import OutOfResources

from seqcells.kernels.call import Call
from seqcells.kernels.triton import backward_kernel, forward_kernel, planning
from seqcells.kernels.triton.availability import interprets
from seqcells.kernels.triton.problem import OVERSIZED_PLANS, Problem, dense


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    if not interprets():
        kernel[grid](*arguments, **constants)
        return
    import numpy  # the interpreter computes with it

    # Masked units and rows may divide 0 by 0. No program reads their results.
    with numpy.errstate(divide="ignore", invalid="ignore"):
        kernel[grid](*arguments, **constants)


class Steps:
    """A kernel with all arguments bound except the range of steps."""

    def __init__(self, kernel: Any, problem: Problem, *arguments: Any, **constants: Any) -> None:
        self.kernel, self.arguments = kernel, (*arguments, problem.batch, problem.steps)
        self.grid = problem.plan.grid(problem.batch, problem.H)
        dtype = tl.float64 if problem.accumulate_dtype == torch.float64 else tl.float32
        self.constants = {**constants, "dtype": dtype}

    def __call__(self, first: int, past: int) -> None:
        launch(self.kernel, self.grid, *self.arguments, first, past, **self.constants)


def retry_smaller(run: Callable[..., Any]) -> Callable[..., Any]:
    """Retry with the next plan if a plan exceeds the memory of a multiprocessor.

    Plans estimate the memory that a program needs. The compiler raises OutOfResources before the
    program runs.
    """

    @functools.wraps(run)
    def retried(call: Call, *arguments: Any) -> Any:
        try:
            with torch.cuda.device_of(call.inputs):
                return run(call, *arguments)
        except OutOfResources:
            problem = Problem(call)
            *_, last = planning.plans(call, problem.functor)
            if problem.plan == last:
                raise
            OVERSIZED_PLANS.add((problem.key, problem.plan))
            return retried(call, *arguments)

    return retried


@retry_smaller
def forward(call: Call, train: bool) -> list[Tensor]:
    """Return `[outputs, *final_state]`, further states of `call.cells`, saved values if `train`."""
    problem = Problem(call)
    rows, H = call.inputs.shape[:-1], problem.H
    constants = problem.constants()
    from_input = F.linear(call.inputs, call.weight_ih, call.bias_ih).contiguous()
    state = [part.to(problem.accumulate_dtype, copy=True).contiguous() for part in call.state]
    outputs = problem.allocate_steps(*rows, problem.width)
    further = [problem.allocate_steps(*rows, H) if call.cells else None for _ in state[1:]]
    saved = problem.allocate_steps(problem.cells, constants["SAVED_WIDTH"]) if train else None
    width = problem.width
    buffers = 2 * (2 + problem.functor.stages)  # two for each product, also for the projection
    exchange = problem.exchange(memory=buffers * max(H, width), sliced=2 * H, external=width)
    sums = problem.exchange(external=problem.kernel.gates * H)
    steps = Steps(
        forward_kernel.forward,
        problem,
        from_input,
        problem.weights(),
        tuple(state),
        problem.per_part(call.fresh),
        *problem.noise(),
        tuple(problem.row_info),
        exchange,
        problem.counters(),
        problem.partials(0),
        sums,
        (outputs, *further),
        saved,
        **constants,
        cell=problem.functor.forward,
        late_operand=problem.functor.operand,
        INPUT_GATES=problem.kernel.inputs,
        MEANS=problem.functor.means[0],
        EXCHANGES=problem.functor.exchanges[0],
        INPUTS=problem.functor.slots.inputs,
        SAVES_AFTER_ZONEOUT=bool(call.zone),
        UNPROJECTED=problem.unprojected,
    )
    if not problem.stepwise:
        steps(0, problem.steps)
    else:
        steps(0, 0)
        for step in range(problem.steps):
            if problem.plan.product == "external":
                _product(exchange, call.weight_hh.t(), sums, call.bias_hh)
            steps(step, step + 1)
    final = [part.to(problem.dtype) for part in state]
    return [part for part in (outputs, *final, *further, saved) if part is not None]


@retry_smaller
def backward(
    call: Call,
    grads: Sequence[Tensor | None],
    outputs: Tensor,
    saved: Tensor,
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Return the gradients of `call.tensors`."""
    need_inputs, need_weights = wanted[0], any(wanted[1 + len(call.state) : 7 + len(call.state)])
    problem = Problem(call)
    functor, kernel, H, width = problem.functor, problem.kernel, problem.H, problem.width
    constants = problem.constants()
    grad_outputs, *rest = grads
    grad_final, grad_further = rest[: kernel.states], rest[kernel.states :]
    grad_state = [
        torch.zeros_like(
            part, dtype=problem.accumulate_dtype, memory_format=torch.contiguous_format
        )
        if grad is None
        else grad.to(problem.accumulate_dtype, copy=True).contiguous()
        for part, grad in zip(call.state, grad_final)
    ]
    grad_fresh = [torch.zeros_like(part) for part in (grad_state if call.fresh else ())]
    count, hiddens = max(functor.columns) + 1, len(functor.slots.hidden)
    dz = problem.allocate_steps(problem.cells, count * H)
    has_early, stages = functor.slots.stages[0], functor.stages
    h_read = problem.allocate_steps(problem.cells, width) if need_weights and has_early else None
    has_operands = need_weights and stages
    operands = problem.allocate_steps(problem.cells, stages * H) if has_operands else None
    projected = problem.allocate_steps(problem.cells, width) if call.weight_hr is not None else None
    programs, _ = problem.plan.grid(problem.batch, H)
    summed = None
    if kernel.parameters:
        summed = dz.new_zeros(programs, kernel.parameters, H, dtype=problem.accumulate_dtype)
    sums = kernel.gates * H
    exchange = problem.exchange(memory=2 * (hiddens * H + width), sliced=2 * sums, external=sums)
    recurrent_grad = problem.exchange(external=width)
    steps = Steps(
        backward_kernel.backward,
        problem,
        problem.weights(),
        problem.per_part(call.state),
        problem.per_part(call.fresh),
        *problem.noise(),
        tuple(problem.row_info),
        (outputs.contiguous(), saved),
        dense((grad_outputs, *(grad_further or [None] * (kernel.states - 1)))),
        tuple(grad_state),
        problem.per_part(grad_fresh),
        exchange,
        problem.counters(),
        problem.partials(1),
        recurrent_grad,
        (dz, h_read, operands, projected, summed),
        **constants,
        cell=functor.backward,
        MEANS=functor.means[1],
        EXCHANGES=functor.exchanges[1],
        late_gradient=functor.late_gradient,
        COLUMNS=functor.columns,
        DZ=count * H,
        ROW_VALUES=kernel.rows,
        SAVED=kernel.saved,
    )
    if not problem.stepwise:
        steps(0, problem.steps)
    else:
        for step in reversed(range(problem.steps)):
            steps(step, step + 1)
            if problem.plan.product == "external":
                _product(exchange, call.weight_hh, recurrent_grad)
        steps(0, 0)
    inputs = dz[:, : kernel.inputs * H] @ call.weight_ih if need_inputs else None
    weights = [None] * 6
    if need_weights:
        blocks = _Blocks(problem, dz)
        weights = [
            blocks.of_inputs(),
            blocks.of_hidden(h_read, operands),
            None if call.bias_ih is None else blocks.bias_ih(),
            None if call.bias_hh is None else blocks.bias_hh(),
            None if projected is None else projected.t() @ _unprojected(problem, saved),
            None if call.parameters is None else summed.sum(0).to(problem.dtype),
        ]
    states = [part.to(problem.dtype) for part in (*grad_state, *grad_fresh)]
    parts = len(grad_state)
    inputs = None if inputs is None else inputs.view(call.inputs.shape)
    return [inputs, *states[:parts], *weights, *states[parts:]]


class _Blocks:
    """Compute the gradients by weights and biases as products of `dz` over all steps."""

    def __init__(self, problem: Problem, dz: Tensor) -> None:
        self.problem, self.dz = problem, dz

    @functools.cached_property
    def sums(self) -> Tensor:
        """The sum of `dz` over all steps and rows, `(columns, H)`."""
        return self.dz.sum(0).view(-1, self.problem.H)

    def of_inputs(self) -> Tensor:
        call, gates = self.problem.call, self.problem.kernel.inputs
        inputs = call.inputs.reshape(self.problem.cells, call.inputs.shape[-1])
        if call.lengths is not None:  # padding may be NaN or infinite
            steps = torch.arange(self.problem.steps, device=inputs.device)
            past = steps.unsqueeze(1) >= self.problem.row_info.lengths
            inputs = inputs.masked_fill(past.view(-1, 1), 0)
        return self.dz[:, : gates * self.problem.H].t() @ inputs

    def of_hidden(self, h_read: Tensor | None, operands: Tensor | None) -> Tensor | None:
        functor, H = self.problem.functor, self.problem.H
        read = [h_read]  # by the product of each stage
        if operands is not None:
            read += operands.split(H, 1)
        parts = []
        # One product for each run of gates of a stage that are adjacent in `dz`.
        gates = sorted(functor.slots.hidden)
        keys = [(functor.stage_of(gate), functor.column_of_hidden(gate) - gate) for gate in gates]
        at = 0
        for (stage, offset), run in itertools.groupby(keys):
            past = at + len(list(run))
            block = self.dz[:, (at + offset) * H : (past + offset) * H]
            parts.append(block.t() @ read[stage])
            at = past
        if not parts:
            return None
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def bias_ih(self) -> Tensor:
        return self.sums[: self.problem.kernel.inputs].flatten()

    def bias_hh(self) -> Tensor:
        functor, gates = self.problem.functor, self.problem.kernel.gates
        columns = [functor.column_of_hidden(gate) for gate in sorted(functor.slots.hidden)]
        if columns == list(range(gates)):
            # Results of an operator must not share memory with those of `bias_ih`.
            return self.sums[:gates].flatten().clone()
        return torch.cat([self.sums[column] for column in columns])


def _unprojected(problem: Problem, saved: Tensor) -> Tensor:
    return saved[:, problem.unprojected * problem.H : (problem.unprojected + 1) * problem.H]


def _product(left: Tensor, right: Tensor, to: Tensor, bias: Tensor | None = None) -> None:
    torch.mm(left, right, out=to) if bias is None else torch.addmm(bias, left, right, out=to)
