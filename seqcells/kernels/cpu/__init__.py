"""The CPU backend: native code that is built when seqcells is installed."""

from __future__ import annotations

import functools
import math
import subprocess
from collections.abc import Sequence

import torch
from torch import Tensor

from seqcells.equations.catalogue import Kernel
from seqcells.equations.program import CACHE_SIZE, UntraceableError
from seqcells.kernels.call import Call
from seqcells.kernels.cpu import library, memory, packed
from seqcells.kernels.cpu.encoding import encode
from seqcells.kernels.cpu.library import instruction_set
from seqcells.kernels.cpu.problem import backward_problem, compiled_cell, forward_problem
from seqcells.kernels.cpu.storage import in_bfloat16, in_float32

NAME = "cpu"
DTYPES: tuple[torch.dtype, ...] = (torch.float32, torch.float64, torch.bfloat16)
SAVES_TENSOR = True


@functools.cache
def unavailable() -> str | None:
    """Return why native code cannot run on this machine, and what to do; None if it can."""
    loaded = library.library()
    return loaded if isinstance(loaded, str) else None


def description() -> str:
    """Return the instruction set, the optional instructions in use and the number of threads."""
    instructions = instruction_set()  # loads the library
    threads = library.thread_count()
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
            compiled_cell(kernel, instructions, "float")
        else:
            encode(kernel.program)
    except UntraceableError as error:
        return f"its kernel cannot be interpreted: {error}; define the cell with compile=True"
    except (OSError, subprocess.CalledProcessError) as error:
        lines = (getattr(error, "stderr", "") or "").split("\n")
        cause = next((line for line in lines if "error" in line), error)
        return f"its kernel cannot be compiled ({cause}); install g++ or clang++, or set CXX"
    return None


def saved_tensor(call: Call, models: Sequence[int] = ()) -> Tensor:
    """Return an empty tensor for the values of each row and step that the backward pass reads.

    `models` is empty, or the number of models.
    """
    kernel, inputs = call.kernel, call.inputs
    values = kernel.saved + (kernel.zoneout_saved() if call.zone else 0)
    columns = values * library.padded(call.state[-1].shape[1]) + kernel.rows * 16
    dtype = torch.float32 if inputs.dtype is torch.bfloat16 else inputs.dtype
    return memory.empty(inputs, (*models, math.prod(inputs.shape[:-1]), columns), dtype)


def forward(call: Call, *, train: bool) -> list[Tensor]:
    """Return `[outputs, *final_state]`, further states of `call.cells`, saved values if `train`."""
    if call.inputs.dtype is torch.bfloat16:
        return in_bfloat16(_forward(in_float32(call), train), train)
    return _forward(call, train)


def _forward(call: Call, train: bool) -> list[Tensor]:
    results = new_results(call, train)
    problem, references = forward_problem(call, results, train)
    if call.weight_ih.dtype is torch.int8:
        name = call.kernel.name
        packed.attach(problem, name, call.weight_ih, call.weight_hh, call.weight_hr)
    library.run("forward", problem)
    del references  # the call has ended
    return results


def new_results(call: Call, train: bool, models: Sequence[int] = ()) -> list[Tensor]:
    """Return empty results of a forward pass, of all models if `models` is their number."""
    inputs, rows = call.inputs, call.inputs.shape[:-1]
    results = [part.new_empty(*models, *part.shape) for part in call.state]
    if not call.is_single():
        results.insert(0, inputs.new_empty(*models, *rows, call.state[0].shape[1]))
    if call.cells:
        results += [inputs.new_empty(*models, *rows, part.shape[1]) for part in call.state[1:]]
    if train:
        results.append(saved_tensor(call, models))
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
    results = new_gradients(call, wanted, saved.dtype)
    problem, references = backward_problem(call, grads, outputs, saved, results)
    library.run("backward", problem)
    del references
    return results


def new_gradients(
    call: Call, wanted: Sequence[bool], dtype: torch.dtype, models: Sequence[int] = ()
) -> list[Tensor | None]:
    """Return empty gradients of `call.tensors`, of all models if `models` is their number.

    Native code always computes the state's gradients, and all gradients by weights or none.
    """
    parts = len(call.state)
    weights = any(wanted[1 + parts : 7 + parts])
    needed = [wanted[0], *[True] * parts, *[weights] * 6]
    results = [
        tensor.new_empty(*models, *tensor.shape, dtype=dtype)
        if tensor is not None and need
        else None
        for tensor, need in zip(call.tensors, needed)
    ]
    fresh = [part.new_zeros(*models, *part.shape) for part in call.fresh]  # native code adds
    return [*results, *fresh]
