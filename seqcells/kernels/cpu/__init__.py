"""The CPU kernel: a shared library, built when seqcells is installed, called with pointers."""

from __future__ import annotations

import ctypes
import functools
import os
import struct
import subprocess
from collections.abc import Iterable, Sequence
from ctypes import c_int64
from pathlib import Path

import torch
from torch import Tensor

from seqcells.equations.catalogue import COMPILED, NUMBERS, kind_of, program_of
from seqcells.equations.program import CACHED, UntraceableError
from seqcells.kernels.cpu.compiler import compiled
from seqcells.kernels.cpu.encoding import encode
from seqcells.kernels.cpu.source import Functor, source_of
from seqcells.kernels.request import Call

DTYPES = (torch.float32, torch.float64)

# `Problem` in native/problem.hpp: so many members of eight bytes each.
_MEMBERS = 60
_PROBLEM = struct.Struct(f"{_MEMBERS}q")


_forked = False


def _after_fork() -> None:
    """OpenMP's threads are gone in a forked process; waiting for them would never end."""
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_after_fork)


@functools.cache
def _library() -> ctypes.CDLL | str:
    """The library, or the reason why there is none. Loaded after torch, it shares its OpenMP."""
    found = sorted(Path(__file__).parent.glob("_native*.so"))
    if not found:
        return (
            "the native code was not built when seqcells was installed; install a C++ compiler "
            "(g++ or clang++) and install seqcells anew"
        )
    try:
        library = ctypes.PyDLL(str(found[0]))  # releases the lock itself, and raises what is set
    except OSError as error:
        return f"{found[0].name} cannot be loaded ({error}); install seqcells anew"
    for name in ("seqcells_forward", "seqcells_backward"):
        getattr(library, name).argtypes = [ctypes.c_char_p, c_int64]
    library.seqcells_variant.argtypes = [c_int64]
    library.seqcells_variant.restype = ctypes.c_char_p
    library.seqcells_problem_size.restype = c_int64
    if library.seqcells_problem_size() != _PROBLEM.size:
        return f"{found[0].name} belongs to another version; install seqcells anew"
    python = ctypes.pythonapi
    functions = (python.PyEval_SaveThread, python.PyEval_RestoreThread, python.PyErr_CheckSignals)
    library.seqcells_python(*[ctypes.cast(function, ctypes.c_void_p) for function in functions])
    return library


# Which of the instruction sets that run here: 0, the best; tests go through the others too.
variant = 0


def unavailable() -> str | None:
    """Why native code cannot run on this machine, and what to do; None when it can."""
    library = _library()
    return library if isinstance(library, str) else None


def instruction_sets() -> list[str]:
    """The instruction sets that this machine runs, the best first."""
    library = _library()
    if isinstance(library, str):
        return []
    names = []
    while name := library.seqcells_variant(len(names)):
        names.append(name.decode())
    return names


def instruction_set() -> str:
    """The instruction set that calls are computed with."""
    return instruction_sets()[variant]


def refusal(kernel: str) -> str | None:
    """Why native code cannot run this kernel, and what to do; compiles one that wants to be."""
    if (reason := unavailable()) is not None or kernel in NUMBERS:
        return reason
    return _ready(kernel, instruction_set())


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
    except RecursionError:
        return "its chain of operations is too long for a kernel"
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
    library = ctypes.CDLL(str(compiled(header, instructions)))
    return ctypes.addressof(ctypes.c_char.in_dll(library, f"seqcells_own_{kind}"))


def kept_columns(call: Call) -> int:
    """The width of what a training step keeps for the backward pass."""
    kind = kind_of(call.cell)
    values = kind.kept + (kind.zoned() if call.zone else 0)
    return values * (-(-call.state[-1].shape[1] // 16) * 16) + kind.rows * 16


def forward(call: Call, *, train: bool) -> list[Tensor]:
    """`[outputs, *final_state]`, with `call.cells` these, with `train` what `backward` needs."""
    given, inputs, state = _Given(call), call.inputs, call.state
    rows = inputs.shape[:-1]
    outputs = inputs.new_empty(*rows, state[0].shape[1])
    final = [part.new_empty(part.shape) for part in state]
    cells = [inputs.new_empty(*rows, state[1].shape[1])] if call.cells else []
    kept = [inputs.new_empty(rows.numel(), kept_columns(call))] if train else []
    shown, *states = map(Tensor.data_ptr, (outputs, *final))
    others = [part[0].data_ptr() if part else 0 for part in (cells, kept)]
    _run(call, "forward", *given.numbers, shown, *_two(states), *others)
    return [outputs, *final, *cells, *kept]


def backward(
    call: Call,
    grads: Sequence[Tensor | None],
    outputs: Tensor,
    kept: Tensor,
    need_inputs: bool,
    need_weights: bool,
) -> list[Tensor | None]:
    """The gradients of inputs, state, the six weights, fresh state; None where none is needed."""
    given, parts = _Given(call), len(call.state)
    grad_outputs, *grad_final = grads
    grad_cells = grad_final.pop() if call.cells else None
    grad_outputs, *strides = given.rows(grad_outputs)
    done = [given.dense(outputs), 0, 0, 0, given.dense(kept)]
    upstream = _two(map(given.dense, grad_final))

    wanted = [call.inputs if need_inputs else None, *call.state]
    wanted += call[3:9] if need_weights else [None] * 6
    found = [part if part is None else part.new_empty(part.shape) for part in wanted]
    found += [part.new_zeros(part.shape) for part in call.fresh]  # written by restarts alone
    inputs, *pointers = [0 if part is None else part.data_ptr() for part in found]
    state, weights, fresh = pointers[:parts], pointers[parts : 6 + parts], pointers[6 + parts :]
    results = [inputs, *_two(state), *_two(fresh), *weights]
    numbers = [*given.numbers, *done, *strides, grad_outputs, *upstream, given.dense(grad_cells)]
    _run(call, "backward", *numbers, *results)
    return found


def _two(pointers: Iterable[int]) -> list[int]:
    """Those of the parts of a state, of which there may be one or none."""
    return [*pointers, 0, 0][:2]


class _Given:
    """What a call is given, as the library reads it: `numbers`, the first members of `Problem`."""

    def __init__(self, call: Call) -> None:
        self.dtype = call.inputs.dtype
        self.kept_alive: list[Tensor] = []  # as long as the library may read them
        state, weights, resets = call.state, call[3:9], call.resets
        rows, hidden_size = state[-1].shape
        inputs, input_step, input_row = self.rows(call.inputs)
        noise = (call.read, call.drop, *call.zone, None, None)[:4]
        self.numbers = [
            *self.cell(call.cell),
            self.dtype == torch.float64,
            1 if _forked else torch.get_num_threads(),
            call.reverse,
            (call.inputs if call.batch_sizes is None else call.batch_sizes).shape[0],
            rows,
            weights[0].shape[0] // hidden_size,
            call.inputs.shape[-1],
            hidden_size,
            0 if call.weight_hr is None else state[0].shape[1],
            kind_of(call.cell).whole_rows,
            input_step,
            input_row,
            *[0 if part is None or part.dim() < 3 else part.shape[1:].numel() for part in noise],
            self.whole_numbers(call.lengths),
            self.whole_numbers(call.batch_sizes),
            0 if resets is None else self.keep(resets.contiguous()),
            inputs,
            *map(self.dense, weights),
            *map(self.dense, noise),
            *_two(map(self.dense, state)),
            *_two(map(self.dense, call.fresh)),
        ]

    def cell(self, kernel: str) -> tuple[int, int, int, int]:
        """One that is compiled on its own, or the code of one with its numbers, or a number."""
        if kernel in NUMBERS:
            return 0, 0, 0, NUMBERS[kernel]
        if kernel.startswith(COMPILED):
            kind = "double" if self.dtype == torch.float64 else "float"
            return _own(kernel, instruction_set(), kind), 0, 0, 0
        code, numbers = encode(program_of(kernel))
        return 0, code.buffer_info()[0], numbers.buffer_info()[0], 0

    def keep(self, tensor: Tensor) -> int:
        self.kept_alive.append(tensor)
        return tensor.data_ptr()

    def dense(self, tensor: Tensor | None) -> int:
        if tensor is None:
            return 0
        if tensor.dtype is not self.dtype or not tensor.is_cpu:
            raise TypeError(f"expected {self.dtype} on cpu, got {tensor.dtype} on {tensor.device}")
        return self.keep(tensor.contiguous())

    def whole_numbers(self, tensor: Tensor | None) -> int:
        return 0 if tensor is None else self.keep(tensor.to(torch.int64).contiguous())

    def rows(self, tensor: Tensor | None) -> tuple[int, int, int]:
        """Rows `(T, B, ...)` may lie anywhere; each row, and what is packed, has to be dense."""
        if tensor is None or tensor.dim() < 3 or tensor.dtype is not self.dtype:
            return self.dense(tensor), 0, 0
        if tensor.stride(-1) != 1:
            tensor = tensor.contiguous()
        step, row, _ = tensor.stride()
        return self.keep(tensor), step, row


def _run(call: Call, function: str, *numbers: int) -> None:
    library = _library()
    if isinstance(library, str):
        raise RuntimeError(library)
    problem = _PROBLEM.pack(*numbers, *[0] * (_MEMBERS - len(numbers)))
    failed = getattr(library, f"seqcells_{function}")(problem, variant)
    if failed == 1:
        raise MemoryError(f"{function}: no memory for its scratch space")
    if failed:
        raise RuntimeError(f"{function}: no kernel {call.cell!r}, variant {variant}")
