"""A call as the native library reads it."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seqcells.equations.catalogue import Kernel
from seqcells.kernels.call import Call, time_stride
from seqcells.kernels.cpu import library
from seqcells.kernels.cpu.compiler import compile_library
from seqcells.kernels.cpu.encoding import encode
from seqcells.kernels.cpu.library import Problem, instruction_set
from seqcells.kernels.cpu.source import Functor, source_of
from seqcells.kernels.cpu.storage import numbers_of

_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "parameters")


@functools.cache
def compiled_cell(kernel: Kernel, instructions: str, kind: str) -> int:
    """Return the address of the `Cell` of a compiled kernel, in a library that stays loaded."""
    header = source_of({kernel.name: Functor("Custom", kernel.program)})
    loaded = ctypes.CDLL(str(compile_library(header, instructions)))
    return ctypes.addressof(ctypes.c_char.in_dll(loaded, f"seqcells_custom_{kind}"))


def forward_problem(
    call: Call, results: Sequence[Tensor], train: bool
) -> tuple[Problem, list[Any]]:
    """Return a forward pass that writes to `results`, and objects to keep alive during the call."""
    problem, references = problem_of(call)
    final = list(results if call.is_single() else results[1:])
    problem.outputs = results[0].data_ptr()  # of a single step, the final state
    parts = len(call.state)
    _set(problem, "final_state", final[:parts])
    if call.cells:
        _set(problem, "states", [None, *final[parts : 2 * parts - 1]])
    if train:
        problem.saved = results[-1].data_ptr()
    return problem, references


def backward_problem(
    call: Call,
    grads: Sequence[Tensor | None],
    outputs: Tensor,
    saved: Tensor,
    results: Sequence[Tensor | None],
) -> tuple[Problem, list[Any]]:
    """Return a backward pass that writes to `results`, the gradients of `call.tensors`."""
    problem, references = problem_of(call)
    dense = [part if part is None else part.to(saved.dtype) for part in grads]
    references.append(dense)
    if not call.is_single():
        upstream, *dense = dense
        if upstream is not None and (upstream.dim() < 3 or upstream.stride(-1) != 1):
            upstream = upstream.contiguous()
        if upstream is not None:
            references.append(upstream)
            problem.grad_outputs = upstream.data_ptr()
            if upstream.dim() > 2:  # rows may be strided
                problem.grad_step, problem.grad_row, _ = upstream.stride()
    dense = [part if part is None else part.contiguous() for part in dense]
    references.append(dense)
    if call.cells:
        _set(problem, "grad_states", [None, *dense[len(call.state) :]])
        dense = dense[: len(call.state)]
    _set(problem, "grad_final", dense)
    references.append(outputs := outputs.contiguous())
    problem.outputs, problem.saved = outputs.data_ptr(), saved.data_ptr()
    weights, fresh = 1 + len(call.state), 7 + len(call.state)
    problem.grad_inputs = 0 if results[0] is None else results[0].data_ptr()
    _set(problem, "grad_state", results[1:weights])
    for name, part in zip(_WEIGHTS, results[weights:fresh]):
        setattr(problem, f"grad_{name}", 0 if part is None else part.data_ptr())
    _set(problem, "grad_fresh", results[fresh:])
    return problem, references


def _set(problem: Problem, name: str, parts: Sequence[Tensor | None]) -> None:
    """Set the items of a member with one item per part of the state."""
    for n, part in enumerate(parts):
        setattr(problem, f"{name}_{n}", 0 if part is None else part.data_ptr())


def problem_of(call: Call) -> tuple[Problem, list[Any]]:
    """Return a call as the library reads it, and objects to keep alive during the call."""
    problem, references = Problem(), []
    inputs, kernel, steps = call.inputs, call.kernel, call.batch_sizes

    def dense(tensor: Tensor) -> Tensor:
        references.append(tensor := tensor.contiguous())
        return tensor

    problem.is_double = inputs.dtype is torch.float64
    problem.narrow, problem.stored = numbers_of(call)
    problem.threads = library.thread_count()
    problem.reverse = call.reverse
    problem.steps = call.steps
    problem.batch, problem.hidden_size = call.state[-1].shape
    problem.gates, problem.whole_rows = kernel.gates, kernel.whole_rows
    problem.input_size = inputs.shape[-1]
    problem.projection = 0 if call.weight_hr is None else call.state[0].shape[1]
    problem.heads = 1
    if call.weight_hh is not None and call.weight_hh.shape[1] != call.state[0].shape[1]:
        problem.heads = call.heads
    if kernel.number is not None:
        problem.cell = kernel.number
    else:
        references.append(_set_cell(problem, kernel))

    # Rows of inputs may be strided. Each row must be contiguous, and packed inputs as a whole.
    if steps is not None or inputs.stride(-1) != 1:
        inputs = dense(inputs)
    if steps is None:
        problem.input_row = inputs.stride(-2)
        problem.input_step = 0 if call.is_single() else inputs.stride(0)
    problem.inputs = inputs.data_ptr()
    for name in _WEIGHTS:
        if (weight := getattr(call, name)) is not None:
            setattr(problem, name, dense(weight).data_ptr())
    _set(problem, "state", [dense(part) for part in call.state])
    _set(problem, "fresh", [dense(part) for part in call.fresh])
    _set(problem, "zone", [dense(part) for part in call.zone])
    for n, part in enumerate(call.zone):
        setattr(problem, f"zone_step_{n}", time_stride(part))
    for name, factor in (("read", call.read), ("drop", call.drop)):
        if factor is not None:
            setattr(problem, name, dense(factor).data_ptr())
            setattr(problem, f"{name}_step", time_stride(factor))
    for name, numbers in (("lengths", call.lengths), ("batch_sizes", steps)):
        if numbers is not None:
            setattr(problem, name, dense(numbers.to(torch.int64)).data_ptr())
    if call.resets is not None:
        problem.resets = dense(call.resets).data_ptr()
    return problem, references


def _set_cell(problem: Problem, kernel: Kernel) -> Any:
    """Set the compiled cell, or the code for the interpreter. Return objects to keep alive."""
    if kernel.compiled:
        kind = "double" if problem.is_double else "float"
        problem.custom_cell = compiled_cell(kernel, instruction_set(), kind)
        return None
    code, constants = encode(kernel.program)
    problem.code, problem.constants = code.buffer_info()[0], constants.buffer_info()[0]
    return code, constants
