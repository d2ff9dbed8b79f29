"""The CPU backend: native code that is built when seqcells is installed."""

from __future__ import annotations

import ctypes
import functools
import math
import subprocess
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seqcells.equations.catalogue import Kernel
from seqcells.equations.program import CACHE_SIZE, UntraceableError
from seqcells.kernels.call import Call, time_stride
from seqcells.kernels.cpu import library, memory, packed
from seqcells.kernels.cpu.compiler import compile_library
from seqcells.kernels.cpu.encoding import encode
from seqcells.kernels.cpu.library import Problem, instruction_sets
from seqcells.kernels.cpu.source import Functor, source_of
from seqcells.kernels.cpu.storage import in_float32, numbers_of, to_bfloat16

NAME = "cpu"
DTYPES: tuple[torch.dtype, ...] = (torch.float32, torch.float64, torch.bfloat16)
SAVES_TENSOR = True


@functools.cache
def unavailable() -> str | None:
    """Return why native code cannot run on this machine, and what to do; None if it can."""
    loaded = library.library()
    return loaded if isinstance(loaded, str) else None


def instruction_set() -> str:
    """Return the name of the instruction set in use."""
    return instruction_sets()[library.variant]


def description() -> str:
    """Return the instruction set, the optional instructions in use and the number of threads."""
    instructions = instruction_set()  # loads the library
    threads = 1 if library.single_threaded else torch.get_num_threads()
    dots = [f"{name} dot products" for name in library.features()]
    return ", ".join([instructions, *dots, f"{threads} thread{'s' * (threads > 1)}"])


def refuses_kernel(kernel: Kernel) -> str | None:
    """Return why native code cannot run this kernel, and what to do. Compiles it if needed."""
    if (reason := unavailable()) is not None or kernel.number is not None:
        return reason
    return _unsupported(kernel, instruction_set())


def refuses(call: Call) -> str | None:
    """Return why native code cannot run a call. It runs every call of a supported kernel."""
    return unavailable() if call.kernel.number is not None else refuses_kernel(call.kernel)


@functools.lru_cache(maxsize=CACHE_SIZE)
def _unsupported(kernel: Kernel, instructions: str) -> str | None:
    """Compile or encode a kernel. Return why this is impossible, or None."""
    try:
        if kernel.compiled:
            _compiled_cell(kernel, instructions, "float")
        else:
            encode(kernel.program)
    except UntraceableError as error:
        return f"its kernel cannot be interpreted: {error}; define the cell with compile=True"
    except (OSError, subprocess.CalledProcessError) as error:
        lines = (getattr(error, "stderr", "") or "").split("\n")
        cause = next((line for line in lines if "error" in line), error)
        return f"its kernel cannot be compiled ({cause}); install g++ or clang++, or set CXX"
    return None


@functools.cache
def _compiled_cell(kernel: Kernel, instructions: str, kind: str) -> int:
    """Return the address of the `Cell` of a compiled kernel, in a library that stays loaded."""
    header = source_of({kernel.name: Functor("Custom", kernel.program)})
    loaded = ctypes.CDLL(str(compile_library(header, instructions)))
    return ctypes.addressof(ctypes.c_char.in_dll(loaded, f"seqcells_custom_{kind}"))


def saved_tensor(call: Call) -> Tensor:
    """Return an empty tensor for the values of each row and step that the backward pass reads."""
    kernel, inputs = call.kernel, call.inputs
    values = kernel.saved + (kernel.zoneout_saved() if call.zone else 0)
    columns = values * library.padded(call.state[-1].shape[1]) + kernel.rows * 16
    dtype = torch.float32 if inputs.dtype is torch.bfloat16 else inputs.dtype
    return memory.empty(inputs, (math.prod(inputs.shape[:-1]), columns), dtype)


def forward(call: Call, *, train: bool) -> list[Tensor]:
    """Return `[outputs, *final_state]`, further states of `call.cells`, saved values if `train`."""
    if call.inputs.dtype is torch.bfloat16:
        results = _forward(in_float32(call), train)
        kept = len(results) - train
        return [*to_bfloat16(results[:kept]), *results[kept:]]
    return _forward(call, train)


def _forward(call: Call, train: bool) -> list[Tensor]:
    inputs, rows = call.inputs, call.inputs.shape[:-1]
    problem, references = problem_of(call)
    final = [torch.empty_like(part, memory_format=torch.contiguous_format) for part in call.state]
    _set(problem, "final_state", final)
    if call.single:
        results = final
        problem.outputs = problem.final_state_0  # equal for one step
    else:
        results = [inputs.new_empty(*rows, final[0].shape[1]), *final]
        problem.outputs = results[0].data_ptr()
    if call.cells:
        later = [inputs.new_empty(*rows, part.shape[1]) for part in final[1:]]
        results += later
        _set(problem, "states", [None, *later])
    if train:
        results.append(saved_tensor(call))
        problem.saved = results[-1].data_ptr()
    if call.weight_ih.dtype is torch.int8:
        name = call.kernel.name
        packed.attach(problem, name, call.weight_ih, call.weight_hh, call.weight_hr)
    library.run("forward", problem)
    del references  # the call has ended
    return results


def backward(
    call: Call,
    grads: Sequence[Tensor | None],
    outputs: Tensor,
    saved: Tensor,
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Return the gradients of `call.tensors`."""
    if call.inputs.dtype is torch.bfloat16:
        found = _backward(in_float32(call), grads, outputs.float(), saved, wanted)
        return [None if grad is None else grad.to(torch.bfloat16) for grad in found]
    return _backward(call, grads, outputs, saved, wanted)


def _backward(
    call: Call,
    grads: Sequence[Tensor | None],
    outputs: Tensor,
    saved: Tensor,
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    problem, references = problem_of(call)
    dense = [part if part is None else part.to(saved.dtype) for part in grads]
    references.append(dense)
    if not call.single:
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
    outputs = outputs.contiguous()
    problem.outputs, problem.saved = outputs.data_ptr(), saved.data_ptr()

    # Native code always computes the state's gradients, and all gradients by weights or none.
    parts = len(call.state)
    weights = any(wanted[1 + parts : 7 + parts])
    needed = [wanted[0], *[True] * parts, *[weights] * 6]
    results: list[Tensor | None] = [
        torch.empty_like(tensor, dtype=saved.dtype, memory_format=torch.contiguous_format)
        if tensor is not None and need
        else None
        for tensor, need in zip(call.tensors, needed)
    ]
    fresh = [torch.zeros_like(part) for part in call.fresh]  # native code adds to them
    problem.grad_inputs = 0 if results[0] is None else results[0].data_ptr()
    _set(problem, "grad_state", results[1 : 1 + parts])
    _set(problem, "grad_fresh", fresh)
    for name, part in zip(_WEIGHTS, results[1 + parts :]):
        setattr(problem, f"grad_{name}", 0 if part is None else part.data_ptr())
    library.run("backward", problem)
    return [*results, *fresh]


_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "parameters")


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
    problem.threads = 1 if library.single_threaded else torch.get_num_threads()
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
        problem.input_step = 0 if call.single else inputs.stride(0)
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
        problem.custom_cell = _compiled_cell(kernel, instruction_set(), kind)
        return None
    code, constants = encode(kernel.program)
    problem.code, problem.constants = code.buffer_info()[0], constants.buffer_info()[0]
    return code, constants
