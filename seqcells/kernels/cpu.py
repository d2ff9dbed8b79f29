"""The CPU kernel: a shared library, built when seqcells is installed, called with pointers."""

from __future__ import annotations

import ctypes
import functools
import subprocess
from collections.abc import Sequence
from ctypes import c_int64
from pathlib import Path

import torch
from torch import Tensor

from seqcells.kernels.catalogue import NUMBERS, kind_of, source_of
from seqcells.kernels.compiler import compiled
from seqcells.kernels.program import Program
from seqcells.kernels.source import Functor

DTYPES = (torch.float32, torch.float64)
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "parameters")

# The members of `Problem` in native/problem.hpp, each of eight bytes.
MEMBERS = (
    *("cell", "is_double", "threads", "reverse"),
    *("steps", "batch", "gates", "input_size", "hidden_size", "projection"),
    *("input_step", "input_row", "grad_step", "grad_row"),
    *("lengths", "batch_sizes", "resets", "inputs", *WEIGHTS, "state", "cell_state"),
    *("fresh", "fresh_cell", "outputs", "final_state", "final_cell", "kept"),
    *("grad_outputs", "grad_final", "grad_final_cell", "grad_inputs", "grad_state"),
    *("grad_cell_state", "grad_fresh", "grad_fresh_cell", *(f"grad_{name}" for name in WEIGHTS)),
)
_Problem = c_int64 * len(MEMBERS)


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
        library = ctypes.CDLL(str(found[0]))
    except OSError as error:
        return f"{found[0].name} cannot be loaded ({error}); install seqcells anew"
    for name in ("seqcells_forward", "seqcells_backward"):
        getattr(library, name).argtypes = [_Problem, c_int64]
    library.seqcells_run.argtypes = [_Problem, ctypes.c_void_p]
    library.seqcells_variant.argtypes = [c_int64]
    library.seqcells_variant.restype = ctypes.c_char_p
    library.seqcells_problem_size.restype = c_int64
    if library.seqcells_problem_size() != ctypes.sizeof(_Problem):
        return f"{found[0].name} belongs to another version; install seqcells anew"
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
    """Why native code cannot run this kernel, and what to do; compiles one that is not built in."""
    if (reason := unavailable()) is not None or kernel in NUMBERS:
        return reason
    return _compiled(kernel, instruction_set())


@functools.cache
def _compiled(kernel: str, instructions: str) -> str | None:
    """None once the kernel's own library is there, or why it cannot be."""
    try:
        _own(kernel, instructions, "forward")
    except (OSError, subprocess.CalledProcessError) as error:
        said = [
            line for line in (getattr(error, "stderr", "") or "").split("\n") if "error" in line
        ]
        why = said[0] if said else error
        return f"its kernel cannot be compiled ({why}); install g++ or clang++, or set CXX"
    return None


@functools.cache
def _own(kernel: str, instructions: str, function: str) -> ctypes.c_void_p:
    """The address of a function of the library that is made for this kernel alone."""
    header = source_of({kernel: Functor("Own", Program.parse(kernel))})
    library = ctypes.CDLL(str(compiled(header, instructions)))
    return ctypes.cast(getattr(library, f"seqcells_alone_{function}"), ctypes.c_void_p)


def kept_columns(cell: str, hidden_size: int) -> int:
    """The width of what a training step keeps for the backward pass."""
    return kind_of(cell).kept * (-(-hidden_size // 16) * 16)


def forward(
    cell: str,
    inputs: Tensor,
    state: Sequence[Tensor],
    weight_ih: Tensor,
    weight_hh: Tensor | None,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    weight_hr: Tensor | None,
    parameters: Tensor | None,
    fresh: Sequence[Tensor],
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    resets: Tensor | None,
    reverse: bool,
    *,
    train: bool,
) -> list[Tensor]:
    """`[outputs, *final_state]` and, with `train`, what `backward` needs."""
    weights = (weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, parameters)
    call = _Call(cell, inputs, state, weights, fresh, lengths, batch_sizes, resets, reverse)
    rows = inputs.shape[:-1]
    results = [inputs.new_empty(*rows, state[0].shape[1]), *map(torch.empty_like, call.state)]
    call.set("outputs", results[0])
    call.set_pair(("final_state", "final_cell"), results[1:])
    if train:
        kept = inputs.new_empty(rows.numel(), kept_columns(cell, call.hidden_size))
        call.set("kept", kept)
        results.append(kept)
    call.run("forward")
    return results


def backward(
    cell: str,
    grads: Sequence[Tensor | None],
    inputs: Tensor,
    state: Sequence[Tensor],
    weight_ih: Tensor,
    weight_hh: Tensor | None,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    weight_hr: Tensor | None,
    parameters: Tensor | None,
    fresh: Sequence[Tensor],
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    resets: Tensor | None,
    reverse: bool,
    outputs: Tensor,
    kept: Tensor,
    need_inputs: bool,
    need_weights: bool,
) -> list[Tensor]:
    """The gradients of inputs, state, the six weights, fresh state; empty where there is none."""
    weights = (weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, parameters)
    call = _Call(cell, inputs, state, weights, fresh, lengths, batch_sizes, resets, reverse)
    call.set("outputs", call.dense(outputs))
    call.set("kept", call.dense(kept))
    grad_outputs, *grad_final = grads
    if grad_outputs is not None:
        call.set_rows("grad", "grad_outputs", grad_outputs)
    grad_final = [grad if grad is None else call.dense(grad) for grad in grad_final]
    call.set_pair(("grad_final", "grad_final_cell"), grad_final)
    nothing = inputs.new_empty(0)
    grad_inputs = inputs.new_empty(inputs.shape) if need_inputs else nothing
    grad_state = [torch.empty_like(part) for part in call.state]
    grad_fresh = [torch.empty_like(part) for part in call.fresh]
    grad_weights = [
        part.new_empty(part.shape) if need_weights and part is not None else nothing
        for part in weights
    ]
    call.set("grad_inputs", grad_inputs)
    call.set_pair(("grad_state", "grad_cell_state"), grad_state)
    call.set_pair(("grad_fresh", "grad_fresh_cell"), grad_fresh)
    for name, grad in zip(WEIGHTS, grad_weights):
        call.set(f"grad_{name}", grad)
    call.run("backward")
    return [grad_inputs, *grad_state, *grad_weights, *grad_fresh]


class _Call:
    """One call: the problem as the library reads it, and the tensors that have to outlive it."""

    def __init__(
        self,
        cell: str,
        inputs: Tensor,
        state: Sequence[Tensor],
        weights: Sequence[Tensor | None],
        fresh: Sequence[Tensor],
        lengths: Tensor | None,
        batch_sizes: Tensor | None,
        resets: Tensor | None,
        reverse: bool,
    ) -> None:
        self.kernel = cell
        self.kept_alive: list[Tensor] = []
        self.dtype = inputs.dtype
        self.state = [self.dense(part) for part in state]
        self.fresh = [self.dense(part) for part in fresh]
        self.hidden_size = state[-1].shape[1]
        self.members = {
            "cell": NUMBERS.get(cell, 0),
            "is_double": self.dtype == torch.float64,
            "threads": torch.get_num_threads(),
            "reverse": reverse,
            "steps": (inputs if batch_sizes is None else batch_sizes).shape[0],
            "batch": state[0].shape[0],
            "gates": weights[0].shape[0] // self.hidden_size,
            "input_size": inputs.shape[-1],
            "hidden_size": self.hidden_size,
            "projection": 0 if weights[4] is None else state[0].shape[1],
        }
        self.set_rows("input", "inputs", inputs)
        for name, part in zip(WEIGHTS, weights):
            if part is not None:
                self.set(name, self.dense(part))
        self.set_pair(("state", "cell_state"), self.state)
        self.set_pair(("fresh", "fresh_cell"), self.fresh)
        for name, numbers in (("lengths", lengths), ("batch_sizes", batch_sizes)):
            if numbers is not None:
                self.set(name, self.keep(numbers.to(torch.int64).contiguous()))
        if resets is not None:
            self.set("resets", self.keep(resets.contiguous()))

    def keep(self, tensor: Tensor) -> Tensor:
        self.kept_alive.append(tensor)
        return tensor

    def dense(self, tensor: Tensor) -> Tensor:
        if tensor.dtype != self.dtype or not tensor.is_cpu:
            raise TypeError(f"expected {self.dtype} on cpu, got {tensor.dtype} on {tensor.device}")
        return self.keep(tensor.contiguous())

    def set(self, name: str, tensor: Tensor) -> None:
        self.members[name] = tensor.data_ptr()

    def set_pair(self, names: tuple[str, str], state: Sequence[Tensor | None]) -> None:
        for name, tensor in zip(names, state):
            if tensor is not None:
                self.set(name, tensor)

    def set_rows(self, kind: str, name: str, tensor: Tensor) -> None:
        """Rows `(T, B, ...)` may lie anywhere; each row, and what is packed, has to be dense."""
        if tensor.dim() == 3 and tensor.stride(-1) == 1 and tensor.dtype == self.dtype:
            self.keep(tensor)
        else:
            tensor = self.dense(tensor)
        if tensor.dim() == 3:
            self.members[f"{kind}_step"], self.members[f"{kind}_row"], _ = tensor.stride()
        self.set(name, tensor)

    def run(self, function: str) -> None:
        library = _library()
        if isinstance(library, str):
            raise RuntimeError(library)
        problem = _Problem(*[self.members.get(name, 0) for name in MEMBERS])
        if self.kernel in NUMBERS:
            failed = getattr(library, f"seqcells_{function}")(problem, variant)
        else:
            failed = library.seqcells_run(problem, _own(self.kernel, instruction_set(), function))
        if failed == 1:
            raise MemoryError(f"{function}: no memory for its scratch space")
        if failed:
            raise RuntimeError(f"{function}: no kernel {self.kernel!r}, variant {variant}")
