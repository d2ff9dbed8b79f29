"""How well a model does on texts that it does not learn from."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from seqcells.text.batches import BucketedBatches
from seqcells.training.interruption import InterruptedRunError


def never() -> bool:
    return False


@torch.no_grad()
def evaluate(
    model: nn.Module, batches: BucketedBatches, interrupted: Callable[[], bool] = never
) -> dict[str, float]:
    """Mean loss and accuracy over all texts."""
    training = model.training
    model.eval()
    loss, correct, texts = 0.0, 0, 0
    try:
        for batch in tqdm(batches.epoch(0), "evaluating", len(batches), disable=None, leave=False):
            if interrupted():
                raise InterruptedRunError
            logits = model(batch.tokens, batch.lengths)
            loss += F.binary_cross_entropy_with_logits(logits, batch.labels, reduction="sum").item()
            correct += count_correct(logits, batch.labels)
            texts += len(batch.labels)
    finally:
        model.train(training)
    return {"loss": loss / texts, "accuracy": correct / texts}


def count_correct(logits: torch.Tensor, labels: torch.Tensor) -> int:
    return int(((logits > 0) == (labels > 0.5)).sum())
