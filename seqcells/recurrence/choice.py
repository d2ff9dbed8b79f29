"""Selection of the backend that computes a request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from seqcells.compatibility import assume_constant, is_transformed, replace, without_transforms
from seqcells.equations.cache import kernel_for
from seqcells.equations.catalogue import Kernel, kernel_of
from seqcells.kernels import cpu, cudnn, triton
from seqcells.kernels.backend import Backend
from seqcells.kernels.call import Call
from seqcells.recurrence.brief_steps import is_faster_by_loop
from seqcells.recurrence.levels import are_supported
from seqcells.recurrence.missing_kernel import warn_if_missing
from seqcells.recurrence.reference import check_equations
from seqcells.recurrence.request import Request, check_placement
from seqcells.recurrence.translation import call_of
from seqcells.state import autocast

BACKENDS: dict[str, Backend] = {"cpu": cpu, "triton": triton, "cudnn": cudnn}
OWN = {"cpu": "cpu", "cuda": "triton"}  # each device's backend
NAMES = ("auto", "reference", *BACKENDS)

# Up to this many units, cuDNN holds the weights on chip for a whole sequence.
FEW_UNITS = {"rnn_tanh": 256, "rnn_relu": 256, "gru": 128, "lstm": 128}
SHORT = 32  # launching a Triton kernel takes as long as this many steps of cuDNN
TRANSFORMED = "forward-mode differentiation and transforms of single steps need every step"

# A plain global: `torch.compile` guards on it, which it cannot do with a ContextVar.
_requested = "auto"


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Select the backend that computes recurrences, in all threads, within the context.

    - `"auto"`, the default: the fastest backend that supports the call.
    - `"reference"`: the readable loop. A compiled or exported graph contains every step. There is
      no `MissingKernelWarning`.
    - `"cpu"`: the C++ kernels.
    - `"triton"`: the kernels for GPUs.
    - `"cudnn"`: PyTorch's layers on a GPU, for plain RNN, GRU and LSTM.

    A call that the named backend does not support raises a RuntimeError with the reason.

    Raises:
        ValueError: an unknown name.
    """
    global _requested
    if name not in NAMES:
        raise ValueError(f"backend: expected one of {', '.join(NAMES)}, got {name!r}")
    before = _requested
    _requested = name
    try:
        yield
    finally:
        _requested = before


def backends() -> dict[str, str]:
    """Return the availability of each backend on this machine, with the reason if it is missing."""
    found = {"reference": "available: the readable loop, any cell on any device"}
    for name, module in BACKENDS.items():
        reason = module.unavailable()
        found[name] = f"not available: {reason}" if reason else f"available: {module.description()}"
    return found


def refuse(reason: str | None) -> None:
    """Raise if a backend was requested by name and there is a reason against it.

    Raises:
        RuntimeError: with the reason and the remedy.
    """
    if reason and _requested in BACKENDS:
        name = f"backend({_requested!r})"
        raise RuntimeError(f"{name} cannot run this: {reason}; or use backend('auto')")


# A dtype to convert a request to, and the precision of the products of its kernel.
Conversion = tuple[torch.dtype, str]
# The backend and its call, or None for the readable loop; a conversion of the request, if that has
# to be done first; whether a graph is compiled, which needs the operator.
Choice = tuple[Backend | None, Call | None, Conversion | None, bool]
LOOP: Choice = (None, None, None, False)


def choose(request: Request, precision: str = "") -> Choice:
    """Return the backend that computes a request, and its call.

    With the precision "bfloat16", kernels on the CPU multiply float32 numbers in bfloat16.

    A backend requested by name takes precedence. The default is the device's own: the C++ kernels
    on the CPU, Triton on a GPU, or cuDNN if `_prefers_cudnn`. The readable loop computes cells
    without a kernel, calls under a transform, and single steps for which it is faster.
    Compiling or exporting a call does not require that this machine can run its operator.

    Autocast, and float16 on the CPU, convert the request to float32 first. Kernels on the CPU then
    multiply in bfloat16 if that is autocast's dtype, except in single steps, for which it takes
    longer to convert the weights than to multiply by them.

    Raises:
        RuntimeError: the requested backend does not support the request.
    """
    cell, inputs = request.cell, request.inputs
    compiling, casts = torch.compiler.is_compiling(), autocast(inputs)
    single = request.is_single()
    if single and _requested == "auto" and is_faster_by_loop(request, compiling, casts):
        return LOOP
    transforms = not compiling and is_transformed()
    every_step = transforms and (
        single or request.is_quantized() or not inputs.is_cpu or not are_supported()
    )
    kernel: Kernel | None
    if (name := cell.built_in_kernel()) is not None:
        kernel = kernel_of(name)
    else:
        with without_transforms() if transforms else nullcontext():
            kernel, reason = (None, TRANSFORMED) if every_step else _recorded_kernel(cell)
        if kernel is None:
            if _requested in BACKENDS and not compiling:
                check_equations(request)  # an error of the equations explains the lack of a kernel
            refuse(reason)
            return LOOP
    if casts:
        exact = single and inputs.is_cpu
        return None, None, (torch.float32, "") if exact else _autocast_conversion(inputs), False
    call, unsupported = call_of(request, kernel)
    if unsupported:
        refuse(f"the kernel of {type(cell).__name__} does not support noise.{unsupported}")
    if every_step or (transforms and _requested not in ("auto", "cpu")):
        refuse(TRANSFORMED)
    if unsupported or every_step or _requested == "reference":
        return LOOP
    name = _compiled_backend(call) if compiling else _requested
    if name == "auto":
        name = _automatic_backend(call) if inputs.is_cuda else "cpu"
    if not compiling and (why := refusal(name, call)) is not None:
        check_placement(request)  # an error of the call, whatever the backend
        refuse(why)
        warn_if_missing(BACKENDS[name], inputs)
        return LOOP
    if name == "cpu" and inputs.dtype is torch.float16:
        return None, None, (torch.float32, ""), False
    if name == "cpu" and precision:
        call = replace(call, kernel=kernel_of(f"{precision} {call.kernel.name}"))
    return BACKENDS[name], call, None, compiling


def native_call(request: Request) -> tuple[Call | None, str]:
    """Return a request as a call of the C++ kernels, or None and why they do not support it."""
    kernel, reason = kernel_of_cell(request.cell)
    if kernel is None:
        return None, reason
    if (dtype := request.inputs.dtype) not in (torch.float32, torch.float64):
        return None, f"expected float32 or float64, got {dtype}; convert the module with .float()"
    call, unsupported = call_of(request, kernel)
    if unsupported:
        return None, f"its kernel does not support noise.{unsupported}"
    return (None, why) if (why := refusal("cpu", call)) else (call, "")


def kernel_of_cell(cell: Any) -> tuple[Kernel | None, str]:
    """Return the kernel of a cell's equations, or None and the reason."""
    name = cell.built_in_kernel()
    return (kernel_of(name), "") if name else kernel_for(cell)


def _recorded_kernel(cell: Any) -> tuple[Kernel | None, str]:
    """Return the kernel of a cell that is not built in, or None and the reason."""
    kernel, reason = kernel_for(cell)
    native = _requested == "auto" and cell._any_parameter().device.type != "cuda"
    if kernel is not None and native and _missing("cpu", kernel.argument()):
        kernel = kernel.interpreted()  # there is no compiler
    return kernel, reason


def _compiled_backend(call: Call) -> str:
    """Return the backend of a call in a compiled graph."""
    own = own_backend(call.inputs)
    if _requested not in ("auto", own):
        refuse(f"a compiled graph of these tensors runs on {own!r}")
    refuse(_missing(own, call.kernel.argument()))
    return own


def _automatic_backend(call: Call) -> str:
    """Return the faster backend for a call on a GPU."""
    return "cudnn" if refusal("cudnn", call) is None and _prefers_cudnn(call) else "triton"


def own_backend(inputs: Tensor) -> str:
    """Return the name of the device's own backend. Unknown devices are treated as a CPU."""
    return OWN.get(inputs.device.type, "cpu")


def selected(call: Call) -> Backend | None:
    """Return the backend that a call's kernel selects, or the device's own, if it has one."""
    return BACKENDS.get(call.kernel.backend or OWN.get(call.inputs.device.type, ""))


def _prefers_cudnn(call: Call) -> bool:
    """Return whether cuDNN is faster for a call that it supports (benchmarks/RESULTS.md).

    In float32 it holds the weights of few units on chip for a whole sequence. For more units, and
    in bfloat16, it launches several kernels per step; Triton launches one for the whole sequence.
    """
    if call.steps < SHORT or call.inputs.dtype in (torch.float16, torch.float64):
        return True
    if (
        call.inputs.dtype == torch.float32
        and call.state[-1].shape[1] <= FEW_UNITS[call.kernel.name]
    ):
        return True
    return triton.unavailable() is not None or not triton.launches_once(call)


def _autocast_conversion(inputs: Tensor) -> Conversion:
    """Return autocast's dtype on a GPU, whose kernels hold sums and states in float32 anyway.

    On the CPU, return float32 and the precision of the products.
    """
    dtype = torch.get_autocast_dtype(inputs.device.type)
    on_gpu = inputs.is_cuda and triton.unavailable() is None and _requested != "reference"
    if on_gpu or _requested == "triton":
        return dtype, ""
    return torch.float32, "bfloat16" if dtype is torch.bfloat16 else ""


@assume_constant
def _missing(name: str, kernel: str) -> str | None:
    """Return why a backend does not support a kernel; the compiler passes strings only."""
    return BACKENDS[name].refuses_kernel(kernel_of(kernel))


def refusal(name: str, call: Call) -> str | None:
    """Return why a backend does not support a call and what to do; None if it does."""
    inputs = call.inputs
    dtype, place = inputs.dtype, inputs.get_device()
    if dtype not in triton.DTYPES:
        return f"expected float32, float64, float16 or bfloat16, got {dtype}; convert it with .to()"
    on_cpu = name == "cpu" or (name == "triton" and triton.interprets())
    if not (inputs.is_cpu if on_cpu else inputs.is_cuda):
        where, named = ("cpu", "the CPU") if on_cpu else ("cuda", "one GPU")
        move = f"move them with .to('{where}')"
        return f"expected tensors on {named}, got {inputs.device}; {move}"
    for tensor in (*call.tensors, call.read, call.drop, *call.zone):
        if tensor is None:
            continue
        if type(tensor) is not Tensor and type(tensor) is not nn.Parameter:
            return f"expected plain tensors, got a {type(tensor).__name__}"
        if tensor.dtype is not dtype and not (name == "cpu" and call.is_narrow_matrix(tensor)):
            return f"expected tensors of one dtype, got {dtype} and {tensor.dtype}"
        if tensor.layout is not torch.strided:
            return f"expected dense tensors, got layout {tensor.layout}; convert with .to_dense()"
        if tensor.is_neg():
            return "expected no view of negated numbers; call resolve_neg() on it"
        if tensor.get_device() != place or tensor.is_meta:
            return f"expected tensors on {inputs.device}, got {tensor.device}; move them with .to()"
    if call.resets is not None and call.resets.device != inputs.device:
        return f"expected resets on {inputs.device}, got {call.resets.device}; move them with .to()"
    return BACKENDS[name].refuses(call)
