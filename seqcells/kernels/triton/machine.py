"""What this machine offers to Triton's kernels."""

from __future__ import annotations

import functools
import importlib.util
import os

import torch

DTYPES: tuple[torch.dtype, ...] = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def interprets() -> bool:
    """Whether kernels run in Triton's interpreter, on the CPU."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes")


@functools.cache
def installed() -> bool:
    """Whether Triton can be imported."""
    return importlib.util.find_spec("triton") is not None


def unavailable() -> str | None:
    """Why these kernels cannot run on this machine, and what to do; None where they can."""
    if not installed():
        return "Triton is not installed; PyTorch's wheels for CUDA bring it, or: pip install triton"
    if not interprets() and not torch.cuda.is_available():
        return "PyTorch finds no GPU here; install its wheel for CUDA on a machine that has one"
    return None
