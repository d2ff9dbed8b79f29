"""Computation of a request by the backend that `choose` returns."""

from __future__ import annotations

import torch
from torch import Tensor

from seqcells.compatibility import replace
from seqcells.noise import apply_weight_factor
from seqcells.recurrence import choice, operators
from seqcells.recurrence.brief_steps import converted_dtype, is_brief
from seqcells.recurrence.choice import choose
from seqcells.recurrence.fast_path import compute_plain
from seqcells.recurrence.reference import reference
from seqcells.recurrence.request import Request, check_placement
from seqcells.state import State, flat_state, form_state, map_state


def compute(request: Request, precision: str = "") -> tuple[State, State]:
    """Run a gated cell over a sequence or one step.

    Kernels multiply in bfloat16 for bfloat16 tensors and under bfloat16 autocast, with sums, states
    and gates in float32. For float16 they compute in float32 on the CPU, and multiply in float16 on
    a GPU. Under autocast, the readable loop computes sequences of cells with a kernel in float32;
    cells without a kernel, and single steps that record gradients, run PyTorch's operations under
    autocast; other single steps compute in float32. `converted_dtype` is the dtype of the results.

    Returns:
        Outputs `(T, B, H)`, zero beyond each length, and each row's state after its last step. With
        `all_states` the states of all steps take the place of the outputs. A single step returns
        `(B, H)`.

    Args:
        request: the recurrence.
        precision: "bfloat16" if kernels on the CPU multiply float32 numbers in bfloat16.

    Raises:
        ValueError: a sparse tensor, tensors on different devices, or quantized weights and a tensor
            that requires gradients.
        RuntimeError: the requested backend does not support the request.
    """
    if not precision and choice._requested == "auto" and is_brief(request):
        try:
            return _brief_step(request)
        except (RuntimeError, TypeError, ValueError):
            check_placement(request)
            raise
    if not precision and (results := compute_plain(request)) is not None:
        if request.inputs.dim() == 2:
            return results[0], form_state(request.state, results)
        return results[0], form_state(request.state, results[1:])
    if request.noise is not None:
        _check_weight_noise(request)
        weights, noise = apply_weight_factor(request.weights, request.noise)
        request = replace(request, weights=weights, noise=noise)
    if request.weights.weight_ih.dtype is not request.inputs.dtype and request.is_quantized():
        _check_inference(request)
    backend, call, conversion, compiling = choose(request, precision)
    if conversion is not None:
        return _converted(request, *conversion)
    if backend is None or call is None:
        check_placement(request)
        return reference(request)
    results = operators.run(backend, call, compiling)
    if call.is_single():
        final = form_state(request.state, results)
        return (final if request.all_states else results[0]), final
    parts = len(call.state)
    outputs, final = results[0], form_state(request.state, results[1 : parts + 1])
    if request.all_states:
        outputs = form_state(request.state, [outputs, *results[parts + 1 :]])
    return outputs, final


def _brief_step(request: Request) -> tuple[State, State]:
    """Run one step of the readable loop, of a sequence of one step too."""
    built_in = request.cell.built_in_kernel() is not None
    if request.inputs.dim() == 2:
        return reference(request, built_in)
    outputs, final = reference(replace(request, inputs=request.inputs[0]), built_in)
    return torch.stack((outputs,)), final  # a copy: results share no memory


def _check_weight_noise(request: Request) -> None:
    """Raise a ValueError for noise on quantized weights, whose numbers are not the weights."""
    if request.is_quantized() and request.noise is not None and request.noise.weight_hh is not None:
        raise ValueError(
            "noise.weight_hh: expected none with quantized weights, got a factor; call .eval(), or "
            "use the module before quantize()"
        )


def _check_inference(request: Request) -> None:
    """Raise a ValueError if a gradient is required of quantized weights."""
    if not torch.is_grad_enabled():
        return
    named = [("input", request.inputs), *(("state", part) for part in flat_state(request.state))]
    for name, part in named:
        if part.requires_grad:
            raise ValueError(
                f"{name}: expected no gradient, got a tensor that requires one; quantized weights "
                "are for inference: call under torch.no_grad(), or use the module before quantize()"
            )


def _converted(request: Request, dtype: torch.dtype, precision: str) -> tuple[State, State]:
    """Compute in this dtype without autocast. float64 and int8 are not converted."""

    def convert(tensor: Tensor) -> Tensor:
        return tensor if tensor.dtype in (torch.float64, torch.int8) else tensor.to(dtype)

    with torch.autocast(request.inputs.device.type, enabled=False):
        outputs, final = compute(request.map(convert), precision)
    dtype = converted_dtype(request)
    return map_state(lambda part: part.to(dtype), (outputs, final))
