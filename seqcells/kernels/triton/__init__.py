"""The Triton backend: GPU kernels, compiled on first use.

The kernels are in forward_kernel.py and backward_kernel.py, and share tiles.py, products.py,
cooperative.py, parts.py and previous_state.py. generated.py holds the elementwise part of each
built-in cell; source.py writes it, and that of other cells for functors.py. planning.py chooses
tiles, problem.py prepares the arguments of a call, and launch.py runs it.

With `TRITON_INTERPRET=1` set before Triton is imported, the kernels run in Triton's interpreter on
the CPU. It is slow, and meant for tests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from seqcells.equations.catalogue import Kernel
from seqcells.kernels.call import Call
from seqcells.kernels.triton.availability import DTYPES, interprets, unavailable

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
    "saved_tensor",
    "unavailable",
]


NAME = "triton"
SAVES_TENSOR = True


def description() -> str:
    """Return the name of the GPU, or that the interpreter runs."""
    return "in Triton's interpreter" if interprets() else torch.cuda.get_device_name()


def refuses_kernel(kernel: Kernel) -> str | None:
    """Return why Triton cannot run this kernel, or None. It supports every kernel."""
    return unavailable()


def refuses(call: Call) -> str | None:
    """Return why Triton cannot run this call, or None."""
    if call.heads > 1:
        return f"expected one head, got {call.heads}; use backend('cpu')"
    return refuses_kernel(call.kernel)


def launches_once(call: Call) -> bool:
    """Return whether one launch runs all steps, instead of one launch per step."""
    from seqcells.kernels.triton.functors import functor_of
    from seqcells.kernels.triton.planning import plans

    first = next(plans(call, functor_of(call.kernel)))
    return first.product != "external"


def saved_tensor(call: Call) -> Tensor:
    """Return an empty tensor for the values of each row and step that the backward pass reads."""
    kernel, inputs = call.kernel, call.inputs
    blocks = kernel.saved + (call.weight_hr is not None)
    blocks += kernel.zoneout_saved() if call.zone else 0
    columns = blocks * call.state[-1].shape[1] + kernel.rows
    return inputs.new_empty(math.prod(inputs.shape[:-1]), columns)


def forward(call: Call, *, train: bool) -> list[Tensor]:
    """Return `[outputs, *final_state]`, further states of `call.cells`, saved values if `train`."""
    from seqcells.kernels.triton import launch  # imports Triton, so only on use

    results = launch.forward(call.with_time(), train)
    return results[1:] if call.is_single() else results


def backward(
    call: Call,
    grads: Sequence[Tensor | None],
    outputs: Tensor,
    saved: Tensor,
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Return the gradients of `call.tensors`."""
    from seqcells.kernels.triton import launch

    if not call.is_single():
        return launch.backward(call, grads, outputs, saved, wanted)
    grad_inputs, *grads = launch.backward(
        call.with_time(), [None, *grads], outputs.unsqueeze(0), saved, wanted
    )
    return [None if grad_inputs is None else grad_inputs.squeeze(0), *grads]
