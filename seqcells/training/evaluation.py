"""How well a model does on examples that it does not learn from."""

from collections.abc import Callable

import torch
from torch import nn
from tqdm import tqdm

from seqcells.training import processes
from seqcells.training.interruption import InterruptedRunError
from seqcells.training.processes import own_part
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
        silent = None if processes.writes() else True
        bar = tqdm(batches.epoch(0), "evaluating", len(batches), disable=silent, leave=False)
        for batch in bar:
            if processes.any_of(interrupted()):
                raise InterruptedRunError
            own, weight = own_part(batch)
            judgement = task.judge(model, own, state)
            state = judgement.state
            loss += judgement.loss.item() * weight
            correct += int(judgement.correct * weight)
            count += task.count(batch)
    finally:
        model.train(training)
    loss, correct = processes.total([loss, correct])
    return task.scores(loss, int(correct), count)
