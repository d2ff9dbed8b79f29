"""Runs the kernels, and the products over whole sequences before and after them."""

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
from seqcells.kernels.triton import gradient, planning, recurrence
from seqcells.kernels.triton.shapes import TOO_LARGE, Shape, dense


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    kernel[grid](*arguments, **constants)


class Steps:
    """A kernel with all that it is given but the steps to take, which are given to each launch."""

    def __init__(self, kernel: Any, shape: Shape, *arguments: Any, **constants: Any) -> None:
        self.kernel, self.arguments = kernel, (*arguments, shape.batch, shape.steps)
        self.grid = shape.plan.grid(shape.batch, shape.H)
        like = tl.float64 if shape.wider == torch.float64 else tl.float32
        self.constants = {**constants, "like": like}

    def __call__(self, first: int, past: int) -> None:
        launch(self.kernel, self.grid, *self.arguments, first, past, **self.constants)


def fitting(run: Callable[..., Any]) -> Callable[..., Any]:
    """Retry with the next plan where a multiprocessor has too little memory for the first.

    What a program needs beside its weights is an estimate; the compiler knows, and says so before
    the program runs.
    """

    @functools.wraps(run)
    def fitted(call: Call, *arguments: Any) -> Any:
        try:
            with torch.cuda.device_of(call.inputs):
                return run(call, *arguments)
        except OutOfResources:
            shape = Shape(call)
            *_, last = planning.plans(call, shape.functor, shape.kernel)
            if shape.plan == last:
                raise
            TOO_LARGE.add((shape.key, shape.plan))
            return fitted(call, *arguments)

    return fitted


@fitting
def forward(call: Call, train: bool) -> list[Tensor]:
    """`[outputs, *final_state]`, with `call.cells` these, with `train` what `backward` needs."""
    shape = Shape(call)
    rows, H = call.inputs.shape[:-1], shape.H
    constants = shape.constants()
    from_input = F.linear(call.inputs, call.weight_ih, call.bias_ih).contiguous()
    state = [part.to(shape.wider, copy=True).contiguous() for part in call.state]
    outputs = shape.room(*rows, shape.width)
    cells = shape.room(*rows, H) if call.cells else None
    kept = shape.room(shape.cells, constants["KEPT"]) if train else None
    exchange = shape.exchange(memory=6 * max(H, shape.width), sliced=2 * H, given=shape.width)
    sums = shape.exchange(given=shape.kernel.gates * H)
    steps = Steps(
        recurrence.forward,
        shape,
        from_input,
        shape.weights(),
        _two(state),
        _two(dense(call.fresh)),
        *shape.noise(),
        tuple(shape.given_rows),
        exchange,
        shape.counters(),
        shape.partials(0),
        sums,
        (outputs, cells, kept),
        **constants,
        cell=shape.functor.forward,
        MEANS=shape.functor.means[0],
        EXCHANGES=shape.functor.exchanges[0],
        INPUTS=shape.functor.slots.inputs,
        BLENDED=shape.blended,
        UNPROJECTED=shape.unprojected,
    )
    if not shape.stepwise:
        steps(0, shape.steps)
    else:
        steps(0, 0)
        for step in range(shape.steps):
            if shape.plan.product == "given":
                _product(exchange, call.weight_hh.t(), sums, call.bias_hh)
            steps(step, step + 1)
    final = [part.to(shape.dtype) for part in state]
    return [part for part in (outputs, *final, cells, kept) if part is not None]


@fitting
def backward(
    call: Call,
    grads: Sequence[Tensor | None],
    outputs: Tensor,
    kept: Tensor,
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients of `call.tensors`."""
    need_inputs, need_weights = wanted[0], any(wanted[1 + len(call.state) : 7 + len(call.state)])
    shape = Shape(call)
    functor, kernel, H, width = shape.functor, shape.kernel, shape.H, shape.width
    constants = shape.constants()
    grad_outputs, *grad_final = grads
    grad_cells = grad_final.pop() if call.cells else None
    grad_state = [
        torch.zeros_like(part, dtype=shape.wider, memory_format=torch.contiguous_format)
        if grad is None
        else grad.to(shape.wider, copy=True).contiguous()
        for part, grad in zip(call.state, grad_final)
    ]
    grad_fresh = [torch.zeros_like(part) for part in (grad_state if call.fresh else ())]
    count, hiddens = max(functor.columns) + 1, len(functor.slots.hidden)
    dz = shape.room(shape.cells, count * H)
    seen = shape.room(shape.cells, width) if need_weights and hiddens else None
    gated = shape.room(shape.cells, H) if need_weights and functor.late else None
    projected = shape.room(shape.cells, width) if call.weight_hr is not None else None
    programs, _ = shape.plan.grid(shape.batch, H)
    summed = None
    if kernel.parameters:
        summed = dz.new_zeros(programs, kernel.parameters, H, dtype=shape.wider)
    sums = kernel.gates * H
    exchange = shape.exchange(memory=2 * (hiddens * H + width), sliced=2 * sums, given=sums)
    through = shape.exchange(given=width)
    steps = Steps(
        gradient.backward,
        shape,
        shape.weights(),
        _two(dense(call.state)),
        _two(dense(call.fresh)),
        *shape.noise(),
        tuple(shape.given_rows),
        (outputs.contiguous(), kept),
        dense((grad_outputs, grad_cells)),
        (*_two(grad_state), *_two(grad_fresh)),
        exchange,
        shape.counters(),
        shape.partials(1),
        through,
        (dz, seen, gated, projected, summed),
        **constants,
        cell=functor.backward,
        MEANS=functor.means[1],
        EXCHANGES=functor.exchanges[1],
        late_backward=functor.late_backward,
        COLUMNS=functor.columns,
        DZ=count * H,
        OF_ROW=kernel.rows,
        KEEPS=kernel.saved,
        CELL=functor.cell if shape.blended < 0 else shape.blended,
    )
    if not shape.stepwise:
        steps(0, shape.steps)
    else:
        for step in reversed(range(shape.steps)):
            steps(step, step + 1)
            if shape.plan.product == "given":
                _product(exchange, call.weight_hh, through)
        steps(0, 0)
    inputs = dz[:, : kernel.gates * H] @ call.weight_ih if need_inputs else None
    weights = [None] * 6
    if need_weights:
        blocks = _Blocks(shape, dz)
        weights = [
            blocks.of_inputs(),
            blocks.of_hidden(seen, gated),
            None if call.bias_ih is None else blocks.bias_ih(),
            None if call.bias_hh is None else blocks.bias_hh(),
            None if projected is None else projected.t() @ _unprojected(shape, kept),
            None if call.parameters is None else summed.sum(0).to(shape.dtype),
        ]
    found = [part.to(shape.dtype) for part in (*grad_state, *grad_fresh)]
    parts = len(grad_state)
    inputs = None if inputs is None else inputs.view(call.inputs.shape)
    return [inputs, *found[:parts], *weights, *found[parts:]]


class _Blocks:
    """Gradients by weights and biases: products of `dz` over all steps at once."""

    def __init__(self, shape: Shape, dz: Tensor) -> None:
        self.shape, self.dz = shape, dz

    @functools.cached_property
    def sums(self) -> Tensor:
        """Over all steps and rows, `(columns, H)`."""
        return self.dz.sum(0).view(-1, self.shape.H)

    def of_inputs(self) -> Tensor:
        call, gates = self.shape.call, self.shape.kernel.gates
        inputs = call.inputs.reshape(self.shape.cells, call.inputs.shape[-1])
        if call.lengths is not None:  # whatever stands past an end, times 0, has to be 0
            steps = torch.arange(self.shape.steps, device=inputs.device)
            past = steps.unsqueeze(1) >= self.shape.given_rows.lengths
            inputs = inputs.masked_fill(past.view(-1, 1), 0)
        return self.dz[:, : gates * self.shape.H].t() @ inputs

    def of_hidden(self, seen: Tensor | None, gated: Tensor | None) -> Tensor | None:
        if seen is None:
            return None
        functor, H = self.shape.functor, self.shape.H
        parts = []
        # Gates that stand side by side in `dz` are one product.
        columns = [
            (functor.column_of_hidden(gate), gate in functor.later)
            for gate in sorted(functor.slots.hidden)
        ]
        keys = [(column - gate, late) for gate, (column, late) in enumerate(columns)]
        at = 0
        for (_, late), run in itertools.groupby(keys):
            count = len(list(run))
            first = columns[at][0] * H
            parts.append(self.dz[:, first : first + count * H].t() @ (gated if late else seen))
            at += count
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def bias_ih(self) -> Tensor:
        return self.sums[: self.shape.kernel.gates].flatten()

    def bias_hh(self) -> Tensor:
        functor = self.shape.functor
        columns = [functor.column_of_hidden(gate) for gate in sorted(functor.slots.hidden)]
        if columns == list(range(self.shape.kernel.gates)):
            return self.bias_ih().clone()  # an operator's results may not share memory
        return torch.cat([self.sums[column] for column in columns])


def _unprojected(shape: Shape, kept: Tensor) -> Tensor:
    return kept[:, shape.unprojected * shape.H : (shape.unprojected + 1) * shape.H]


def _product(left: Tensor, right: Tensor, to: Tensor, bias: Tensor | None = None) -> None:
    torch.mm(left, right, out=to) if bias is None else torch.addmm(bias, left, right, out=to)


def _two(parts: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    return (*parts, None, None)[:2]
