"""The CPU backend: native code, built when seqcells is installed, called with pointers."""

from __future__ import annotations

import ctypes
import functools
import subprocess
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seqcells.equations.catalogue import Kernel
from seqcells.equations.program import CACHED, UntraceableError
from seqcells.kernels.call import Call, time_stride
from seqcells.kernels.cpu import library
from seqcells.kernels.cpu.compiler import compiled
from seqcells.kernels.cpu.encoding import encode
from seqcells.kernels.cpu.library import Problem, instruction_sets
from seqcells.kernels.cpu.source import Functor, source_of

NAME = "cpu"
DTYPES: tuple[torch.dtype, ...] = (torch.float32, torch.float64)
SAVES_TENSOR = True


@functools.cache
def unavailable() -> str | None:
    """Return why native code cannot run on this machine, and what to do; None if it can."""
    loaded = library.library()
    return loaded if isinstance(loaded, str) else None


def instruction_set() -> str:
    """Return the instruction set that calls are computed with."""
    return instruction_sets()[library.variant]


def description() -> str:
    """Return the instruction set and the number of threads."""
    threads = torch.get_num_threads()
    return f"{instruction_set()}, {threads} thread{'s' * (threads > 1)}"


def refuses_kernel(kernel: Kernel) -> str | None:
    """Return why native code cannot run this kernel, and what to do; compile it if it asks."""
    if (reason := unavailable()) is not None or kernel.number is not None:
        return reason
    return _ready(kernel, instruction_set())


def refuses(call: Call) -> str | None:
    """Return why native code cannot run a call: it runs every call of a kernel that it runs."""
    return unavailable() if call.kernel.number is not None else refuses_kernel(call.kernel)


@functools.lru_cache(maxsize=CACHED)
def _ready(kernel: Kernel, instructions: str) -> str | None:
    """None once the kernel can be run, or why it cannot."""
    try:
        if kernel.compiled:
            _own(kernel, instructions, "float")
        else:
            encode(kernel.program)
    except UntraceableError as error:
        return f"its kernel cannot be interpreted: {error}; have it compiled, with compile=True"
    except (OSError, subprocess.CalledProcessError) as error:
        said = [
            line for line in (getattr(error, "stderr", "") or "").split("\n") if "error" in line
        ]
        why = said[0] if said else error
        return f"its kernel cannot be compiled ({why}); install g++ or clang++, or set CXX"
    return None


@functools.cache
def _own(kernel: Kernel, instructions: str, kind: str) -> int:
    """The address of what the loops over time need to know of a kernel that is not built in."""
    header = source_of({kernel.name: Functor("Own", kernel.program)})
    own = ctypes.CDLL(str(compiled(header, instructions)))
    return ctypes.addressof(ctypes.c_char.in_dll(own, f"seqcells_own_{kind}"))


def saved_columns(call: Call) -> int:
    """Return the width of what a training step saves for the backward pass."""
    kernel = call.kernel
    values = kernel.saved + (kernel.zoned() if call.zone else 0)
    return values * library.padded(call.state[-1].shape[1]) + kernel.rows * 16


def forward(call: Call, *, train: bool) -> list[Tensor]:
    """Return `[outputs, *final_state]`, with `call.cells` the cells, with `train` what is saved."""
    inputs, rows = call.inputs, call.inputs.shape[:-1]
    problem, alive = _described(call)
    final = [torch.empty_like(part, memory_format=torch.contiguous_format) for part in call.state]
    _set(problem, "final_state", final)
    if call.single:
        results = final
        problem.outputs = problem.final_state_0  # the same numbers
    else:
        results = [inputs.new_empty(*rows, final[0].shape[1]), *final]
        problem.outputs = results[0].data_ptr()
    if call.cells:
        results.append(inputs.new_empty(*rows, final[1].shape[1]))
        problem.cells = results[-1].data_ptr()
    if train:
        results.append(inputs.new_empty(rows.numel(), saved_columns(call)))
        problem.saved = results[-1].data_ptr()
    library.run("forward", problem)
    del alive  # only now
    return results


def backward(
    call: Call,
    grads: Sequence[Tensor | None],
    outputs: Tensor,
    saved: Tensor,
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Return the gradients of `call.tensors`."""
    problem, alive = _described(call)
    dense = [part if part is None else part.to(saved.dtype) for part in grads]
    alive.append(dense)
    if not call.single:
        upstream, *dense = dense
        if upstream is not None and (upstream.dim() < 3 or upstream.stride(-1) != 1):
            upstream = upstream.contiguous()
        if upstream is not None:
            alive.append(upstream)
            problem.grad_outputs = upstream.data_ptr()
            if upstream.dim() > 2:  # rows may lie anywhere
                problem.grad_step, problem.grad_row, _ = upstream.stride()
    dense = [part if part is None else part.contiguous() for part in dense]
    alive.append(dense)
    if call.cells:
        *dense, upstream = dense
        problem.grad_cells = 0 if upstream is None else upstream.data_ptr()
    _set(problem, "grad_final", dense)
    outputs = outputs.contiguous()
    problem.outputs, problem.saved = outputs.data_ptr(), saved.data_ptr()

    # The state's gradients are by-products, and the weights' are computed together.
    parts = len(call.state)
    weights = any(wanted[1 + parts : 7 + parts])
    needed = [wanted[0], *[True] * parts, *[weights] * 6]
    found: list[Tensor | None] = [
        torch.empty_like(tensor, memory_format=torch.contiguous_format)
        if tensor is not None and need
        else None
        for tensor, need in zip(call.tensors, needed)
    ]
    fresh = [torch.zeros_like(part) for part in call.fresh]  # restarts add to it
    problem.grad_inputs = 0 if found[0] is None else found[0].data_ptr()
    _set(problem, "grad_state", found[1 : 1 + parts])
    _set(problem, "grad_fresh", fresh)
    for name, part in zip(_WEIGHTS, found[1 + parts :]):
        setattr(problem, f"grad_{name}", 0 if part is None else part.data_ptr())
    library.run("backward", problem)
    return [*found, *fresh]


_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "parameters")


def _set(problem: Problem, name: str, parts: Sequence[Tensor | None]) -> None:
    """Set a member that has two items."""
    for n, part in enumerate(parts):
        setattr(problem, f"{name}_{n}", 0 if part is None else part.data_ptr())


def _described(call: Call) -> tuple[Problem, list[Any]]:
    """What a call is given, as the library reads it, and what has to stay alive meanwhile."""
    problem, alive = Problem(), []
    inputs, kernel, steps = call.inputs, call.kernel, call.batch_sizes

    def dense(tensor: Tensor) -> Tensor:
        alive.append(tensor := tensor.contiguous())
        return tensor

    problem.is_double = inputs.dtype is torch.float64
    problem.threads = 1 if library.forked else torch.get_num_threads()
    problem.reverse = call.reverse
    problem.steps = call.steps
    problem.batch, problem.hidden_size = call.state[-1].shape
    problem.gates, problem.whole_rows = kernel.gates, kernel.whole_rows
    problem.input_size = inputs.shape[-1]
    problem.projection = 0 if call.weight_hr is None else call.state[0].shape[1]
    if kernel.number is not None:
        problem.cell = kernel.number
    else:
        alive.append(_describe_own(problem, kernel))

    # Rows of inputs may lie anywhere; each row, and packed inputs, have to be dense.
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
    return problem, alive


def _describe_own(problem: Problem, kernel: Kernel) -> Any:
    """Set a kernel that is compiled by itself, or the code of one that is interpreted."""
    if kernel.compiled:
        kind = "double" if problem.is_double else "float"
        problem.own = _own(kernel, instruction_set(), kind)
        return None
    code, numbers = encode(kernel.program)
    problem.code, problem.numbers = code.buffer_info()[0], numbers.buffer_info()[0]
    return code, numbers
