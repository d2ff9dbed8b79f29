"""The GPU kernel: fused recurrences in Triton, compiled when they are first used.

recurrence.py and gradient.py are the kernels, tiles.py and slices.py what they share, generated.py
and late.py what a step computes. planning.py chooses tiles, shapes.py describes a call to the
kernels, and launch.py runs it. Under Triton's interpreter (`TRITON_INTERPRET=1` before Triton is
imported) all of it runs on the CPU, slowly: for tests.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from seqcells.equations.catalogue import kind_of
from seqcells.kernels.request import Call
from seqcells.kernels.triton.machine import DTYPES, interprets, unavailable

__all__ = [
    "DTYPES",
    "backward",
    "forward",
    "interprets",
    "kept_columns",
    "launches_once",
    "refusal",
]
__all__ += ["unavailable"]


def refusal(kernel: str) -> str | None:
    """Why they cannot run here; there is no kernel that they could not."""
    return unavailable()


def launches_once(call: Call) -> bool:
    """Whether one launch runs through all steps; else there is one for each step."""
    from seqcells.kernels.triton.functors import functor_of
    from seqcells.kernels.triton.planning import plans

    first = next(plans(call, functor_of(call.cell), kind_of(call.cell)))
    return first.product != "given"


def kept_columns(call: Call) -> int:
    """The width of what a training step keeps for the backward pass."""
    kind = kind_of(call.cell)
    blocks = kind.kept + (kind.zoned() if call.zone else 0) + (call.weight_hr is not None)
    return blocks * call.state[-1].shape[1] + kind.rows


def forward(call: Call, *, train: bool) -> list[Tensor]:
    """`[outputs, *final_state]`, with `call.cells` these, with `train` what `backward` needs."""
    from seqcells.kernels.triton import launch  # all of Triton: only where it is used

    return launch.forward(call, train)


def backward(call: Call, *arguments: Any) -> list[Tensor | None]:
    """The gradients of inputs, state, the six weights, fresh state; None where none is needed."""
    from seqcells.kernels.triton import launch

    return launch.backward(call, *arguments)
