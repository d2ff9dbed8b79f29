"""Single steps: which the readable loop computes faster, and the dtype of their results."""

from __future__ import annotations

import torch

from seqcells.compatibility import is_transformed
from seqcells.recurrence.request import Request
from seqcells.state import autocast, first_tensor

BRIEF = ("rnn_tanh", "rnn_relu")  # one step is four operators, as fast as a kernel from Python
REDUCED = (torch.float16, torch.bfloat16)


def is_brief(request: Request) -> bool:
    """Return whether a request is one training step that is faster without a kernel.

    PyTorch records the gradients of its own operators in C++, as for `torch.nn.RNNCell`. The
    gradient of a kernel is recorded in Python, which takes longer than such a step.
    """
    cell, weights, inputs, _, _, noise, lengths, sizes, resets, _, _ = request
    return (
        cell.kernel in BRIEF
        and (inputs.dim() == 2 or inputs.shape[0] == 1)
        and inputs.is_cpu
        and inputs.layout is torch.strided
        and not weights.weight_ih.is_meta
        and not weights.weight_hh.is_meta
        and inputs.dtype not in REDUCED
        and weights.weight_ih.dtype is inputs.dtype
        and torch.is_grad_enabled()
        and noise is None
        and lengths is None
        and sizes is None
        and resets is None
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
    )


def is_faster_by_loop(request: Request, compiling: bool, casts: bool) -> bool:
    """Return whether the readable loop computes a single step, as kernels are slower.

    They are in a compiled graph, on a GPU and in float16; in bfloat16 and under autocast, if a
    gradient is recorded. Under autocast the loop also keeps the dtypes of PyTorch's operations for
    cells that are not built in.
    """
    inputs = request.inputs
    if request.is_quantized():
        return False
    if compiling or not inputs.is_cpu or inputs.dtype is torch.float16:
        return True
    if not casts and inputs.dtype is not torch.bfloat16:
        return False
    if casts and (is_transformed() or request.cell.built_in_kernel() is None):
        return True
    return torch.is_grad_enabled() and request.requires_grad()


def converted_dtype(request: Request) -> torch.dtype:
    """Return the dtype of the results of a request that was converted: that of the state.

    Under autocast a step of an RNN ends in an operation in autocast's dtype, as that of
    `torch.nn.RNNCell`.
    """
    own = first_tensor(request.state).dtype
    single = request.is_single() and autocast(request.inputs)
    if single and request.cell.built_in_kernel() in BRIEF and own is not torch.float64:
        return torch.get_autocast_dtype(request.inputs.device.type)
    return own
