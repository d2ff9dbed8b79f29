"""The one place that decides what computes a recurrence, by stated conditions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seqcells.cells.base import GatedCell, kernel_of
from seqcells.equations.catalogue import COMPILED
from seqcells.equations.recorded import kernel_for
from seqcells.equations.recording import constant
from seqcells.kernels import cudnn, triton
from seqcells.kernels.request import Call
from seqcells.recurrence import operators
from seqcells.recurrence.backends import chosen, refuse

FEW_UNITS = {"rnn_tanh": 256, "rnn_relu": 256, "gru": 128, "lstm": 128}  # whose weights cuDNN keeps
SHORT = 32  # steps: the launch of a Triton kernel takes as long as so many steps of cuDNN
TRANSFORMED = "a transform of torch.func or forward-mode differentiation has to see every step"


def kernel_name(cell: GatedCell) -> tuple[str | None, str]:
    """The kernel that computes the cell's equations, or None and the reason."""
    if (kernel := kernel_of(cell)) is not None:
        return kernel, ""
    if not torch.compiler.is_compiling() and operators.transformed():
        return None, TRANSFORMED
    kernel, reason = kernel_for(cell)
    native = chosen() == "auto" and cell._any_parameter().device.type != "cuda"
    if kernel is not None and native and _missing("cpu", kernel):
        kernel = kernel.removeprefix(COMPILED)  # where it cannot be compiled it is interpreted
    return kernel, reason


def backend_of(call: Call) -> str | None:
    """The backend that computes a call that a kernel is wanted for; None for the readable loop.

    The backend chosen by name; by default the device's own, the C++ kernel on the CPU and Triton on
    a GPU. On a GPU, plain cells go to cuDNN where `_prefers_cudnn` says that it is faster. A call
    that is being compiled or exported gets the operator of its device, whether or not this machine
    could run it.

    Raises:
        RuntimeError: a backend is asked for by name that cannot run the call.
    """
    asked, on_gpu = chosen(), call.inputs.is_cuda
    own = "triton" if on_gpu else "cpu"
    if torch.compiler.is_compiling():
        if asked not in ("auto", own):
            refuse(f"what is compiled for these tensors runs on {own!r}")
        refuse(_missing(own, call.cell))
        return own
    if asked == "auto" and on_gpu and obstacle("cudnn", call) is None and _prefers_cudnn(call):
        return "cudnn"
    name = own if asked == "auto" else asked
    reason = obstacle(name, call)
    refuse(reason)
    return name if reason is None else None


def _prefers_cudnn(call: Call) -> bool:
    """Whether cuDNN is the faster one for a call that it can run (benchmarks/RESULTS.md).

    In float32 it keeps the weights of few units on the GPU for a whole sequence. Beyond, and in
    bfloat16, it launches several kernels at each step, where Triton launches one in all.
    """
    steps = len(call.inputs if call.batch_sizes is None else call.batch_sizes)
    if steps < SHORT or call.inputs.dtype in (torch.float16, torch.float64):
        return True
    if call.inputs.dtype == torch.float32 and call.state[-1].shape[1] <= FEW_UNITS[call.cell]:
        return True
    return triton.unavailable() is not None or not triton.launches_once(call)


def asked_for(backend: str, call: Call) -> Call:
    """The call for this backend, named in its kernel's name where it is not the device's own."""
    if backend == "cpu" or (backend == "triton" and call.inputs.is_cuda):
        return call
    return call._replace(cell=f"{backend} {call.cell}")


def autocast_dtype(inputs: Tensor) -> torch.dtype:
    """Autocast's own for kernels on a GPU, which hold sums and states in float32 all the same."""
    on_gpu = inputs.is_cuda and triton.unavailable() is None and chosen() != "reference"
    if on_gpu or chosen() == "triton":
        return torch.get_autocast_dtype(inputs.device.type)
    return torch.float32


@constant
def _missing(backend: str, kernel: str) -> str | None:
    return operators.BACKENDS[backend].refusal(kernel)


def obstacle(backend: str, call: Call) -> str | None:
    """Why a backend cannot run a call on its tensors, and what to do; None where it can."""
    if operators.transformed():
        return TRANSFORMED
    if reason := _mismatch(backend, call.inputs, [*call.tensors, *call.noise]):
        return reason
    if backend == "cudnn" and (reason := cudnn.obstacle(call)):
        return reason
    return operators.BACKENDS[backend].refusal(call.cell)


def _mismatch(backend: str, inputs: Tensor, tensors: Sequence[Tensor | None]) -> str | None:
    dtype, index = inputs.dtype, inputs.get_device()
    if dtype not in triton.DTYPES:
        return f"expected float32, float64, float16 or bfloat16, got {dtype}; convert it with .to()"
    on_cpu = backend == "cpu" or (backend == "triton" and triton.interprets())
    where, named = ("cpu", "the CPU") if on_cpu else ("cuda", "one GPU")
    for tensor in tensors:
        if tensor is None:
            continue
        if type(tensor) not in (Tensor, nn.Parameter):
            return f"expected plain tensors, got a {type(tensor).__name__}"
        if not (tensor.is_cpu if on_cpu else tensor.is_cuda) or tensor.get_device() != index:
            move = f"move them with .to('{where}')"
            return f"expected tensors on {named}, got {tensor.device}; {move}"
        if tensor.dtype != dtype:
            return f"expected tensors of one dtype, got {dtype} and {tensor.dtype}"
    return None
