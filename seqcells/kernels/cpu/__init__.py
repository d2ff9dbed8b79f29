"""The CPU backend: native code, built when seqcells is installed, called with pointers."""

from __future__ import annotations

import ctypes
import functools
import subprocess
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seqcells.equations.catalogue import COMPILED, NUMBERS, kind_of, program_of
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


def refuses_kernel(kernel: str) -> str | None:
    """Return why native code cannot run this kernel, and what to do; compile it if it asks."""
    if (reason := unavailable()) is not None or kernel in NUMBERS:
        return reason
    return _ready(kernel, instruction_set())


def refuses(call: Call) -> str | None:
    """Return why native code cannot run a call: it runs every call of a kernel that it runs."""
    return unavailable() if call.kernel in NUMBERS else refuses_kernel(call.kernel)


@functools.lru_cache(maxsize=CACHED)
def _ready(kernel: str, instructions: str) -> str | None:
    """None once the kernel can be run, or why it cannot."""
    try:
        if kernel.startswith(COMPILED):
            _own(kernel, instructions, "float")
        else:
            encode(program_of(kernel))
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
def _own(kernel: str, instructions: str, kind: str) -> int:
    """The address of what the loops over time need to know of a kernel that is not built in."""
    header = source_of({kernel: Functor("Own", program_of(kernel))})
    own = ctypes.CDLL(str(compiled(header, instructions)))
    return ctypes.addressof(ctypes.c_char.in_dll(own, f"seqcells_own_{kind}"))


def saved_columns(call: Call) -> int:
    """Return the width of what a training step saves for the backward pass."""
    kind = kind_of(call.kernel)
    values = kind.kept + (kind.zoned() if call.zone else 0)
    return values * (-(-call.state[-1].shape[1] // 16) * 16) + kind.rows * 16


def forward(call: Call, *, train: bool) -> list[Tensor]:
    """Return `[outputs, *final_state]`, with `call.cells` the cells, with `train` what is saved."""
    inputs = call.inputs
    problem, alive = _described(call)
    final = []
    for n, part in enumerate(call.state):
        final.append(torch.empty_like(part, memory_format=torch.contiguous_format))
        setattr(problem, f"final_state_{n}", final[n].data_ptr())
    if inputs.dim() == 2 and call.batch_sizes is None:
        results = final
        problem.outputs = problem.final_state_0  # the same numbers
    else:
        rows = inputs.shape[:-1]
        outputs = inputs.new_empty(*rows, final[0].shape[1])
        problem.outputs = outputs.data_ptr()
        results = [outputs, *final]
        if call.cells:
            results.append(inputs.new_empty(*rows, final[1].shape[1]))
            problem.cells = results[-1].data_ptr()
    if train:
        cells = inputs.shape[:-1].numel()
        results.append(torch.empty(cells, saved_columns(call), dtype=inputs.dtype))
        problem.saved = results[-1].data_ptr()
    library.run("forward", problem)
    del alive
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
    parts = len(call.state)

    def dense(tensor: Tensor | None) -> int:
        if tensor is None:
            return 0
        alive.append(tensor := tensor.to(saved.dtype).contiguous())
        return tensor.data_ptr()

    grad_outputs, grad_final = (None, grads) if call.single else (grads[0], grads[1:])
    if call.cells:
        *grad_final, grad_cells = grad_final
        problem.grad_cells = dense(grad_cells)
    if grad_outputs is not None:
        if grad_outputs.dim() > 2 and grad_outputs.stride(-1) == 1:
            problem.grad_step, problem.grad_row, _ = grad_outputs.stride()
            problem.grad_outputs = grad_outputs.data_ptr()
        else:
            problem.grad_outputs = dense(grad_outputs)
            if grad_outputs.dim() > 2:
                problem.grad_step, problem.grad_row, _ = alive[-1].stride()
    for n, grad in enumerate(grad_final):
        setattr(problem, f"grad_final_{n}", dense(grad))
    problem.outputs, problem.saved = dense(outputs), saved.data_ptr()

    # The state's gradients are by-products, and the weights' are computed together.
    weights = any(wanted[1 + parts : 7 + parts])
    needed = [wanted[0], *[True] * parts, *[weights] * 6]
    found: list[Tensor | None] = [
        torch.empty_like(tensor, memory_format=torch.contiguous_format)
        if tensor is not None and need
        else None
        for tensor, need in zip(call.tensors, needed)
    ]
    found += [torch.zeros_like(part) for part in call.fresh]  # restarts add to it
    pointers = [0 if part is None else part.data_ptr() for part in found]
    problem.grad_inputs = pointers[0]
    for n in range(parts):
        setattr(problem, f"grad_state_{n}", pointers[1 + n])
    for n, pointer in enumerate(pointers[7 + parts :]):
        setattr(problem, f"grad_fresh_{n}", pointer)
    for name, pointer in zip(_WEIGHTS, pointers[1 + parts :]):
        setattr(problem, f"grad_{name}", pointer)
    library.run("backward", problem)
    return found


_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "parameters")


def _described(call: Call) -> tuple[Problem, list[Any]]:
    """What a call is given, as the library reads it, and what has to stay alive meanwhile."""
    problem, alive = Problem(), []

    def dense(tensor: Tensor) -> Tensor:
        alive.append(tensor := tensor.contiguous())
        return tensor

    inputs, state = call.inputs, call.state
    batch, hidden = state[-1].shape
    weight_ih, weight_hh, bias_ih, bias_hh = (
        call.weight_ih,
        call.weight_hh,
        call.bias_ih,
        call.bias_hh,
    )
    problem.is_double = inputs.dtype is torch.float64
    problem.threads = 1 if library.forked else torch.get_num_threads()
    problem.reverse = call.reverse
    problem.batch = batch
    problem.gates, problem.input_size = weight_ih.shape[0] // hidden, inputs.shape[-1]
    problem.hidden_size = hidden
    if call.kernel in NUMBERS:
        problem.cell = NUMBERS[call.kernel]
    else:
        alive.append(_describe_own(problem, call.kernel))
    problem.whole_rows = kind_of(call.kernel).whole_rows

    # Rows of inputs may lie anywhere; each row, and packed inputs, have to be dense.
    if call.batch_sizes is not None or inputs.stride(-1) != 1:
        inputs = dense(inputs)
    if call.batch_sizes is not None:
        problem.steps = call.batch_sizes.shape[0]
    elif inputs.dim() == 2:  # a single step
        problem.steps, problem.input_row = 1, inputs.stride(0)
    else:
        problem.steps = inputs.shape[0]
        problem.input_step, problem.input_row, _ = inputs.stride()
    problem.inputs = inputs.data_ptr()

    # Spelled out: a function call for each tensor would cost as much as all the rest.
    problem.weight_ih = (weight_ih if weight_ih.is_contiguous() else dense(weight_ih)).data_ptr()
    if weight_hh is not None:
        weight_hh = weight_hh if weight_hh.is_contiguous() else dense(weight_hh)
        problem.weight_hh = weight_hh.data_ptr()
    if bias_ih is not None:
        problem.bias_ih = (bias_ih if bias_ih.is_contiguous() else dense(bias_ih)).data_ptr()
    if bias_hh is not None:
        problem.bias_hh = (bias_hh if bias_hh.is_contiguous() else dense(bias_hh)).data_ptr()
    for n, part in enumerate(state):
        setattr(problem, f"state_{n}", (part if part.is_contiguous() else dense(part)).data_ptr())
    if call.weight_hr is not None:
        problem.projection = state[0].shape[1]
        problem.weight_hr = dense(call.weight_hr).data_ptr()
    if call.parameters is not None:
        problem.parameters = dense(call.parameters).data_ptr()
    for n, part in enumerate(call.fresh):
        setattr(problem, f"fresh_{n}", dense(part).data_ptr())
    if call.lengths is not None:
        problem.lengths = dense(call.lengths.to(torch.int64)).data_ptr()
    if call.batch_sizes is not None:
        problem.batch_sizes = dense(call.batch_sizes.to(torch.int64)).data_ptr()
    if call.resets is not None:
        problem.resets = dense(call.resets).data_ptr()
    if call.read is not None:
        problem.read, problem.read_step = dense(call.read).data_ptr(), time_stride(call.read)
    if call.drop is not None:
        problem.drop, problem.drop_step = dense(call.drop).data_ptr(), time_stride(call.drop)
    for n, part in enumerate(call.zone):
        setattr(problem, f"zone_{n}", dense(part).data_ptr())
        setattr(problem, f"zone_step_{n}", time_stride(part))
    return problem, alive


def _describe_own(problem: Problem, kernel: str) -> Any:
    """Set a kernel that is compiled by itself, or the code of one that is interpreted."""
    if kernel.startswith(COMPILED):
        kind = "double" if problem.is_double else "float"
        problem.own = _own(kernel, instruction_set(), kind)
        return None
    code, numbers = encode(program_of(kernel))
    problem.code, problem.numbers = code.buffer_info()[0], numbers.buffer_info()[0]
    return code, numbers
