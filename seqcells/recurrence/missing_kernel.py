"""Warning about kernels that are not installed."""

from __future__ import annotations

import sys
import warnings

from torch import Tensor

from seqcells.kernels.backend import Backend


class MissingKernelWarning(UserWarning):
    """The Python loop runs a call because its kernels are not installed.

    The warning is issued once per process, at the first such call. It states the reason, which is
    that of `seqcells.backends()`, and the remedy. Cells and devices without kernels do not cause
    it, and calls within `seqcells.backend("reference")` do not either. To hide it::

        warnings.filterwarnings("ignore", category=seqcells.MissingKernelWarning)
    """


_warned = False


def warn_if_missing(backend: Backend, inputs: Tensor) -> None:
    """Warn once per process if the backend of this device is not installed."""
    global _warned
    if _warned or not (inputs.is_cpu or inputs.is_cuda):
        return
    if (reason := backend.unavailable()) is None:
        return
    _warned = True
    warnings.warn(
        f"seqcells runs a slow Python loop in place of its {backend.NAME} kernels: {reason}. To "
        "hide this warning, run within seqcells.backend('reference'), or call warnings."
        "filterwarnings('ignore', category=seqcells.MissingKernelWarning)",
        MissingKernelWarning,
        stacklevel=_stacklevel(),
    )


def _stacklevel() -> int:
    """Return the stack level of the first frame outside seqcells and torch."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and _is_library(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    return level


def _is_library(module: str) -> bool:
    return module.partition(".")[0] in ("seqcells", "torch")
