"""How well a model does on examples that it does not learn from."""

from collections.abc import Callable

import torch
from torch import nn
from tqdm import tqdm

from seqcells.lab.training import processes
from seqcells.lab.training.devices import Transfer
from seqcells.lab.training.interruption import InterruptedRunError
from seqcells.lab.training.processes import own_part
from seqcells.lab.training.readings import Readings
from seqcells.lab.training.tasks import Batches, Task


def never() -> bool:
    return False


@torch.no_grad()
def evaluate(
    task: Task, model: nn.Module, batches: Batches, interrupted: Callable[[], bool] = never
) -> dict[str, float]:
    """The task's scores over all labels."""
    training = model.training
    model.eval()
    transfer = Transfer(next(model.parameters()).device)
    readings, state = Readings(), None
    try:
        silent = None if processes.writes() else True
        bar = tqdm(batches.epoch(0), "evaluating", len(batches), disable=silent, leave=False)
        for batch in bar:
            if processes.any_of(interrupted()):
                raise InterruptedRunError
            own, weight = own_part(batch)
            judgement = task.judge(model, transfer(own), state)
            state = judgement.state
            readings.add(judgement, weight, task.count(batch))
    finally:
        model.train(training)
    losses, right, counts, _ = zip(*readings.take())
    loss, correct = processes.total([sum(losses), sum(right)])
    return task.scores(loss, int(correct), sum(counts))
