"""How well a model does on examples that it does not learn from."""

from collections.abc import Callable

import torch
from torch import nn
from tqdm import tqdm

from seqcells.training.interruption import InterruptedRunError
from seqcells.training.tasks import Batches, Task


def never() -> bool:
    return False


@torch.no_grad()
def evaluate(
    task: Task, model: nn.Module, batches: Batches, interrupted: Callable[[], bool] = never
) -> dict[str, float]:
    """The task's scores over all labels."""
    training = model.training
    model.eval()
    loss, correct, count, state = 0.0, 0, 0, None
    try:
        for batch in tqdm(batches.epoch(0), "evaluating", len(batches), disable=None, leave=False):
            if interrupted():
                raise InterruptedRunError
            judgement = task.judge(model, batch, state)
            state = judgement.state
            loss += judgement.loss.item()
            correct += judgement.correct
            count += judgement.count
    finally:
        model.train(training)
    return task.scores(loss, correct, count)
