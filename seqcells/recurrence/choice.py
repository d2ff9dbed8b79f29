"""The one place that decides what computes a request, by stated conditions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from seqcells.equations.cache import kernel_for
from seqcells.equations.catalogue import Kernel, assume_constant, kernel_of
from seqcells.equations.protocol import factor_of
from seqcells.equations.recording import kernel_weights
from seqcells.kernels import cpu, cudnn, triton
from seqcells.kernels.backend import Backend
from seqcells.kernels.call import Call
from seqcells.noise import Noise
from seqcells.recurrence.request import Request
from seqcells.state import autocast, flat_state

BACKENDS: dict[str, Backend] = {"cpu": cpu, "triton": triton, "cudnn": cudnn}
OWN = {"cpu": "cpu", "cuda": "triton"}  # each device's backend
NAMES = ("auto", "reference", *BACKENDS)

FEW_UNITS = {"rnn_tanh": 256, "rnn_relu": 256, "gru": 128, "lstm": 128}  # cuDNN keeps their weights
SHORT = 32  # steps: launching a Triton kernel takes as long as this many steps of cuDNN
BRIEF = ("rnn_tanh", "rnn_relu")  # one step takes four operators, as fast as a kernel
REDUCED = (torch.float16, torch.bfloat16)
TRANSFORMED = "a transform of torch.func or forward-mode differentiation has to see every step"

# A plain global: `torch.compile` guards on it, which it cannot do with a ContextVar.
_asked = "auto"


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Choose what computes recurrences, for all threads, as long as the context is open.

    - `"auto"`, the default: the fastest that can run the call.
    - `"reference"`: the readable loop. Compiled or exported it is spelt out step by step.
    - `"cpu"`: the C++ kernels.
    - `"triton"`: the kernels for GPUs.
    - `"cudnn"`: PyTorch's own layers on a GPU, for plain RNN, GRU and LSTM.

    A call that a named backend cannot run raises a RuntimeError with the reason.

    Raises:
        ValueError: another name.
    """
    global _asked
    if name not in NAMES:
        raise ValueError(f"backend: expected one of {', '.join(NAMES)}, got {name!r}")
    before = _asked
    _asked = name
    try:
        yield
    finally:
        _asked = before


def backends() -> dict[str, str]:
    """Return for each backend whether this machine has it, or why not."""
    found = {"reference": "available: the readable loop, any cell on any device"}
    for name, module in BACKENDS.items():
        reason = module.unavailable()
        found[name] = f"not available: {reason}" if reason else f"available: {module.description()}"
    return found


def refuse(reason: str | None) -> None:
    """Raise if a backend is asked for by name and there is a reason why it cannot run the call.

    Raises:
        RuntimeError: with the reason and the remedy.
    """
    if reason and _asked in BACKENDS:
        name = f"backend({_asked!r})"
        raise RuntimeError(f"{name} cannot run this: {reason}; or use backend('auto')")


# What computes a request: a backend with its call, or None for the readable loop; a dtype to
# convert the request to before choosing again; whether a graph is made, which needs an operator.
Choice = tuple[Backend | None, Call | None, torch.dtype | None, bool]
LOOP: Choice = (None, None, None, False)


def is_brief(request: Request) -> bool:
    """Return whether a request is one step that trains no slower without a kernel.

    These operators record their gradients in C++, as those of `torch.nn.RNNCell`; that of a kernel
    is recorded from Python, which takes longer than such a step.
    """
    cell, _, inputs, _, _, noise, lengths, sizes, resets, _, _ = request
    return (
        cell.kernel in BRIEF
        and (inputs.dim() == 2 or inputs.shape[0] == 1)
        and inputs.is_cpu
        and inputs.dtype not in REDUCED
        and _asked == "auto"
        and torch.is_grad_enabled()
        and noise is None
        and lengths is None
        and sizes is None
        and resets is None
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
    )


def choose(request: Request) -> Choice:
    """Return the backend that computes a request, and its call.

    The backend asked for by name; by default the device's own, the C++ kernels on the CPU and
    Triton on a GPU, or cuDNN where `_prefers_cudnn` says so. The readable loop computes cells
    without a kernel, what a transform has to see step by step, and single steps in which kernels
    are slower: in a compiled graph, on a GPU, in reduced precision. A call that is compiled or
    exported gets the operator of its device, whether or not this machine could run it.

    Autocast and reduced precision on the CPU convert the request: kernels there compute in float32.

    Raises:
        RuntimeError: a backend is asked for by name that cannot run the request.
    """
    cell, inputs = request.cell, request.inputs
    compiling, casts = torch.compiler.is_compiling(), autocast(inputs)
    slower = compiling or casts or not inputs.is_cpu or inputs.dtype in REDUCED
    if request.single and slower and _asked == "auto":
        return LOOP
    seen = not compiling and transformed()
    kernel: Kernel | None
    if (name := cell.built_in_kernel()) is not None:
        kernel = kernel_of(name)
    else:
        kernel, reason = (None, TRANSFORMED) if seen else _recorded_kernel(cell)
        if kernel is None:
            refuse(reason)
            return LOOP
    if casts:
        return None, None, _autocast_dtype(inputs), False
    call, left_over = _call_of(request, kernel)
    if left_over:
        refuse(f"the kernel of {type(cell).__name__} takes no noise.{left_over}")
    if seen:
        refuse(TRANSFORMED)
    if left_over or seen or _asked == "reference":
        return LOOP
    name = _compiled_backend(call) if compiling else _asked
    if name == "auto":
        name = _automatic_backend(call) if inputs.is_cuda else "cpu"
    if not compiling and (why := obstacle(name, call)) is not None:
        refuse(why)
        return LOOP
    if name == "cpu" and inputs.dtype in REDUCED:
        return None, None, torch.float32, False
    return BACKENDS[name], call, None, compiling


def _call_of(request: Request, kernel: Kernel) -> tuple[Call, str]:
    """The request as a kernel computes it, and the name of a noise that it does not take."""
    weights, inputs = request.weights, request.inputs
    if not kernel.weights_unchanged:
        weights = kernel_weights(kernel, request.cell, weights)
    state, fresh = flat_state(request.state), flat_state(request.fresh)
    if request.batch_sizes is None:
        rows = inputs.shape[-2]
        state, fresh = _for_rows(state, rows), _for_rows(fresh, rows)
    read, drop, zone, left_over = _factors(request.cell, request.noise, kernel)
    cells = request.all_states and len(state) > 1
    steps = request.lengths, request.batch_sizes, request.resets, request.reverse, cells
    parts: list[Any] = [*weights, fresh, read, drop, zone, *steps]
    return Call(kernel, inputs, state, *parts), left_over


def _for_rows(parts: list[Tensor], rows: int) -> list[Tensor]:
    """The parts of a state; those of one that stands for all rows are expanded."""
    return [part if part.shape[0] == rows else part.expand(rows, -1) for part in parts]


def _recorded_kernel(cell: Any) -> tuple[Kernel | None, str]:
    """The kernel made of a user's own equations, or None and the reason."""
    kernel, reason = kernel_for(cell)
    native = _asked == "auto" and cell._any_parameter().device.type != "cuda"
    if kernel is not None and native and _missing("cpu", kernel):
        kernel = kernel.interpreted()  # there is no compiler
    return kernel, reason


def _compiled_backend(call: Call) -> str:
    own = own_backend(call.inputs)
    if _asked not in ("auto", own):
        refuse(f"what is compiled for these tensors runs on {own!r}")
    refuse(_missing(own, call.kernel))
    return own


def _automatic_backend(call: Call) -> str:
    """The faster backend for a call on a GPU."""
    return "cudnn" if obstacle("cudnn", call) is None and _prefers_cudnn(call) else "triton"


def own_backend(inputs: Tensor) -> str:
    """Return the name of the device's own backend; an unknown device is treated as a CPU."""
    return OWN.get(inputs.device.type, "cpu")


def selected(call: Call) -> Backend | None:
    """Return the backend that a call's kernel selects, or the device's own, if it has one."""
    return BACKENDS.get(call.kernel.backend or OWN.get(call.inputs.device.type, ""))


def _prefers_cudnn(call: Call) -> bool:
    """Whether cuDNN is faster for a call that it can run (benchmarks/RESULTS.md).

    In float32 it keeps the weights of few units on the GPU for a whole sequence. Beyond, and in
    bfloat16, it launches several kernels at each step, where Triton launches one in all.
    """
    if call.steps < SHORT or call.inputs.dtype in (torch.float16, torch.float64):
        return True
    if (
        call.inputs.dtype == torch.float32
        and call.state[-1].shape[1] <= FEW_UNITS[call.kernel.name]
    ):
        return True
    return triton.unavailable() is not None or not triton.launches_once(call)


def _autocast_dtype(inputs: Tensor) -> torch.dtype:
    """Autocast's own dtype on a GPU, whose kernels hold sums and states in float32 all the same."""
    on_gpu = inputs.is_cuda and triton.unavailable() is None and _asked != "reference"
    if on_gpu or _asked == "triton":
        return torch.get_autocast_dtype(inputs.device.type)
    return torch.float32


@assume_constant
def _missing(name: str, kernel: Kernel) -> str | None:
    return BACKENDS[name].refuses_kernel(kernel)


def obstacle(name: str, call: Call) -> str | None:
    """Return why a backend cannot run a call on its tensors, and what to do; None if it can."""
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
        if tensor.dtype is not dtype:
            return f"expected tensors of one dtype, got {dtype} and {tensor.dtype}"
        if tensor.is_neg():
            return "expected no view of negated numbers; call resolve_neg() on it"
        if tensor.get_device() != place:
            return f"expected tensors on {inputs.device}, got {tensor.device}; move them with .to()"
    return BACKENDS[name].refuses(call)


def transformed() -> bool:
    """Whether functorch or forward-mode differentiation sees the call."""
    return forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


def _factors(
    cell: Any, noise: Noise | None, kernel: Kernel
) -> tuple[Tensor | None, Tensor | None, list[Tensor], str]:
    """The noise as a call takes it, and the name of a part that the kernel does not take."""
    if noise is None:
        return None, None, [], ""
    factors = {"hidden": noise.hidden, "candidate": noise.candidate}
    read = factors.pop("hidden") if kernel.hidden else None
    drop = factors.pop(factor_of(cell)) if kernel.takes_drop else None
    left_over = [name for name, factor in factors.items() if factor is not None]
    return read, drop, flat_state(noise.zone), left_over[0] if left_over else ""
