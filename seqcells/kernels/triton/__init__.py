"""The GPU kernel: fused recurrences in Triton, compiled when they are first used.

recurrence.py and gradient.py are the kernels, tiles.py and slices.py what they share, generated.py
and late.py what a step computes. planning.py chooses tiles, shapes.py describes a call to the
kernels, and launch.py runs it. Under Triton's interpreter (`TRITON_INTERPRET=1` before Triton is
imported) all of it runs on the CPU, slowly: for tests.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seqcells.equations.catalogue import Kernel
from seqcells.kernels.call import Call
from seqcells.kernels.triton.machine import DTYPES, interprets, unavailable

__all__ = [
    "DTYPES",
    "NAME",
    "SAVES_TENSOR",
    "backward",
    "description",
    "forward",
    "interprets",
    "launches_once",
    "refuses",
    "refuses_kernel",
    "saved_columns",
]
__all__ += ["unavailable"]


NAME = "triton"
SAVES_TENSOR = True


def description() -> str:
    """Return the GPU that kernels run on."""
    return "in Triton's interpreter" if interprets() else torch.cuda.get_device_name()


def refuses_kernel(kernel: Kernel) -> str | None:
    """Return why kernels cannot run here; Triton runs every kernel."""
    return unavailable()


def refuses(call: Call) -> str | None:
    """Return why kernels cannot run here; Triton runs every call."""
    return unavailable()


def launches_once(call: Call) -> bool:
    """Whether one launch runs through all steps; else there is one for each step."""
    from seqcells.kernels.triton.functors import functor_of
    from seqcells.kernels.triton.planning import plans

    first = next(plans(call, functor_of(call.kernel)))
    return first.product != "given"


def saved_columns(call: Call) -> int:
    """Return the width of what a training step saves for the backward pass."""
    kernel = call.kernel
    blocks = kernel.saved + (kernel.zoned() if call.zone else 0) + (call.weight_hr is not None)
    return blocks * call.state[-1].shape[1] + kernel.rows


def forward(call: Call, *, train: bool) -> list[Tensor]:
    """Return `[outputs, *final_state]`, with `call.cells` the cells, with `train` what is saved."""
    from seqcells.kernels.triton import launch  # all of Triton: only where it is used

    results = launch.forward(call.with_time(), train)
    return results[1:] if call.single else results


def backward(
    call: Call,
    grads: Sequence[Tensor | None],
    outputs: Tensor,
    saved: Tensor,
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Return the gradients of `call.tensors`."""
    from seqcells.kernels.triton import launch

    if not call.single:
        return launch.backward(call, grads, outputs, saved, wanted)
    inputs, *found = launch.backward(
        call.with_time(), [None, *grads], outputs.unsqueeze(0), saved, wanted
    )
    return [None if inputs is None else inputs.squeeze(0), *found]
