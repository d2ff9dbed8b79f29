"""What computes a recurrence: which backends this machine has, and which one is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from seqcells.kernels import cpu, triton
from seqcells.recurrence.operators import BACKENDS

NAMES = ("auto", "reference", *BACKENDS)

# A plain global: `torch.compile` reads it as a guard, which it cannot do with a ContextVar.
_chosen = "auto"


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Choose what computes recurrences, for all threads, as long as the context is open.

    - `"auto"`, the default: the fastest that can run the call.
    - `"reference"`: the readable loop. Compiled or exported it is spelt out step by step.
    - `"cpu"`: the C++ kernels.
    - `"triton"`: the kernels for GPUs.
    - `"cudnn"`: PyTorch's own layers on a GPU, for plain RNN, GRU and LSTM.

    A call that a named backend cannot run raises, and says why.

    Raises:
        ValueError: another name.
    """
    global _chosen
    if name not in NAMES:
        raise ValueError(f"backend: expected one of {', '.join(NAMES)}, got {name!r}")
    before = _chosen
    _chosen = name
    try:
        yield
    finally:
        _chosen = before


def chosen() -> str:
    """The backend that is asked for."""
    return _chosen


def backends() -> dict[str, str]:
    """What this machine has: each backend's name, and whether it is available or why not."""
    threads = torch.get_num_threads()
    has = {
        "cpu": lambda: f"{cpu.instruction_set()}, {threads} thread{'s' * (threads > 1)}",
        "triton": lambda: "in Triton's interpreter" if triton.interprets() else _gpu(),
        "cudnn": lambda: f"{_gpu()}, cuDNN {torch.backends.cudnn.version()}",
    }
    found = {"reference": "available: the readable loop, any cell on any device"}
    for name, module in BACKENDS.items():
        reason = module.unavailable()
        found[name] = f"not available: {reason}" if reason else f"available: {has[name]()}"
    return found


def _gpu() -> str:
    return torch.cuda.get_device_name()


def refuse(reason: str | None) -> None:
    """Raise if a kernel is asked for by name and there is a reason why it cannot run the call.

    Raises:
        RuntimeError: with the reason and the remedy.
    """
    if reason and _chosen in BACKENDS:
        name = f"backend({_chosen!r})"
        raise RuntimeError(f"{name} cannot run this: {reason}; or use backend('auto')")
