"""Inputs and outputs of a model in float64, which the C code is compared with."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

from seqcells import Recurrent, Stack, backend
from seqcells.lab.export.c.rounding import Rounding, wide_copy
from seqcells.lab.export.parts import MODELS, Parts, stored_dtype
from seqcells.lab.models.language import LanguageModel

STEPS = 16  # of the recorded sequence
MARGIN = 2e-4  # from the middle between two results of rounding; errors of float32 are smaller
TRIALS = 16  # seeds at most; the one with the largest margin is used


@torch.no_grad()
def record(module: nn.Module, parts: Parts, size: int) -> tuple[Tensor, Tensor]:
    """Return inputs and outputs `(T, O)` of a module with the given parts.

    The inputs are words `(T,)`, or vectors `(T, I)` with `size` numbers. A quantized module rounds
    the vectors that it multiplies. Numbers near the middle between two results may round
    differently in float32, so the inputs of several seeds are tried until no number is near.
    """
    dtype, wide = stored_dtype(module), wide_copy(module)
    best, result = -1.0, None
    for seed in range(1 if dtype is None else TRIALS):
        rounding = None if dtype is None else Rounding(wide, dtype)
        with rounding or contextlib.nullcontext():
            recorded = _record(wide, parts, size, seed)
        margin = MARGIN if rounding is None else rounding.margin
        if margin > best:
            best, result = margin, recorded
        if margin >= MARGIN:
            break
    assert result is not None
    inputs, outputs = result
    if not isinstance(module, MODELS) and isinstance(head := parts.head, nn.Linear):
        bias = None if head.bias is None else head.bias.double()
        outputs = nn.functional.linear(outputs, head.weight.double(), bias)
    return inputs, outputs


def _record(module: nn.Module, parts: Parts, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return random inputs, and the outputs of a model or of a recurrence without its head."""
    generator = torch.Generator().manual_seed(seed)
    if parts.inputs is None:
        inputs = torch.randn(STEPS, size, generator=generator)
        sequence = inputs.double()
    else:
        count = parts.inputs.words.num_embeddings
        sequence = inputs = torch.randint(count, (STEPS,), generator=generator)
    with backend("reference"):
        if isinstance(module, MODELS):
            return inputs, _run_model(module, sequence)
        return inputs, _run_recurrence(module, sequence)


def _run_recurrence(module: nn.Module, inputs: Tensor) -> Tensor:
    if not isinstance(module, (Recurrent, Stack, nn.RNNBase)):
        module = Recurrent(module)
    sequence = inputs.unsqueeze(0 if module.batch_first else 1)
    return module(sequence)[0].reshape(len(inputs), -1)


def _run_model(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return the outputs after each step, from a run of the model over the steps so far."""
    sequence = inputs.unsqueeze(1)
    if isinstance(model, LanguageModel):
        (hidden,), _ = model(sequence)
        head = model.next.head
        return head(hidden[:, 0]) if isinstance(head, nn.Linear) else head.log_prob(hidden[:, 0])
    rows = [model(sequence[:n], torch.tensor([n])) for n in range(1, len(inputs) + 1)]
    return torch.stack([row.reshape(-1, model.head.out_features)[-1] for row in rows])
