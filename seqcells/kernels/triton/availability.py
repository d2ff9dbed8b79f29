"""Whether Triton kernels can run on this machine."""

from __future__ import annotations

import functools
import importlib.util
import os

import torch

DTYPES: tuple[torch.dtype, ...] = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def interprets() -> bool:
    """Return whether kernels run in Triton's interpreter, on the CPU."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes")


@functools.cache
def installed() -> bool:
    """Return whether Triton can be imported."""
    return importlib.util.find_spec("triton") is not None


def unavailable() -> str | None:
    """Return why Triton kernels cannot run on this machine, and what to do; None if they can."""
    if not installed():
        return "Triton is not installed; install a CUDA wheel of PyTorch, or run pip install triton"
    if not interprets() and not torch.cuda.is_available():
        return "PyTorch finds no GPU; use a machine with a GPU and a CUDA wheel of PyTorch"
    return None
