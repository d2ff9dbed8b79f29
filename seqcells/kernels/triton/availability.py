"""Whether Triton kernels can run on this machine."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os

import torch

OLDEST = (3, 6)  # of Triton; 3.3, of torch 2.7, has no products in float64

DTYPES: tuple[torch.dtype, ...] = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def interprets() -> bool:
    """Return whether kernels run in Triton's interpreter, on the CPU."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes")


@functools.cache
def installed() -> bool:
    """Return whether Triton can be imported."""
    return importlib.util.find_spec("triton") is not None


@functools.cache
def outdated() -> str | None:
    """Return the version of Triton if it is too old for the kernels, else None."""
    try:
        version = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:  # a build under another name
        return None
    major, minor = version.split(".")[:2]
    return version if (int(major), int(minor)) < OLDEST else None


def unavailable() -> str | None:
    """Return why Triton kernels cannot run on this machine, and what to do; None if they can."""
    if not installed():
        return "Triton is not installed; install a CUDA wheel of PyTorch, or run pip install triton"
    if version := outdated():
        return f"expected Triton {OLDEST[0]}.{OLDEST[1]} or later, got {version}; upgrade PyTorch"
    if not interprets() and not torch.cuda.is_available():
        return "PyTorch finds no GPU; use a machine with a GPU and a CUDA wheel of PyTorch"
    return None
