"""Metrics of batches, their sums over an epoch, training progress, and evaluation."""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from seqcells.lab.training import processes
from seqcells.lab.training.devices import Transfer
from seqcells.lab.training.tasks import Batches, Judgement, Task
from seqcells.lab.training.termination import InterruptedRunError, never_interrupted


class BatchMetrics(NamedTuple):
    """Metrics of one batch in one process: `loss` and `correct` are sums over its own labels."""

    loss: float
    correct: float
    labels: int  # of all processes
    norm: float | None  # of the gradient, if the weights are updated after this batch


Scalar = Tensor | float


class PendingMetrics:
    """Metrics that stay on a GPU until they are read, as reading them synchronises.

    Those on the CPU are read at once: a small tensor would keep the memory beside it from being
    used again, and an evaluation of 3,900 batches grew to 19 GB.
    """

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._losses: list[Scalar] = []
        self._correct: list[Scalar] = []
        self._norms: dict[int, Scalar] = {}  # by the batch's position
        self._counts: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._losses)

    def add(
        self, judgement: Judgement, weight: float, labels: int, norm: Tensor | None = None
    ) -> None:
        """Add a batch. The weight is zero in a process whose shard is empty."""
        if norm is not None:
            self._norms[len(self)] = _pending(norm)
        self._losses.append(_pending(judgement.loss.detach()))
        if judgement.correct is not None:
            self._correct.append(_pending(judgement.correct))
        self._counts.append((weight, labels))

    def read(self) -> list[BatchMetrics]:
        """Transfer the pending metrics to the host and remove them."""
        losses, norms = _values(self._losses), dict(zip(self._norms, _values(self._norms.values())))
        correct = _values(self._correct) or [0.0] * len(losses)
        metrics = [
            BatchMetrics(loss * weight, count * weight, labels, norms.get(position))
            for position, (loss, count, (weight, labels)) in enumerate(
                zip(losses, correct, self._counts, strict=True)
            )
        ]
        self._clear()
        return metrics


def _pending(scalar: Tensor) -> Scalar:
    """Return the value of a tensor on the CPU, or the tensor."""
    return scalar.item() if scalar.is_cpu else scalar


def _values(scalars: Collection[Scalar]) -> list[float]:
    """Return the values of tensors on one device, in one transfer."""
    tensors = [scalar for scalar in scalars if isinstance(scalar, Tensor)]
    read = iter(torch.stack(tensors).tolist() if tensors else [])
    return [next(read) if isinstance(scalar, Tensor) else scalar for scalar in scalars]


@dataclass
class EpochSums:
    """Sums over the batches of an epoch so far."""

    labels: int = 0
    tokens: int = 0
    loss: float = 0.0
    correct: int = 0
    norm: float = 0.0
    batches: int = 0
    steps: int = 0
    skipped: int = 0  # steps that overflowed in float16
    seconds: float = 0.0

    def mean_norm(self) -> float:
        """Return the mean norm of the gradients that updated the weights."""
        return self.norm / max(self.steps - self.skipped, 1)

    def speed(self) -> float:
        """Return tokens per second."""
        return self.tokens / max(self.seconds, 1e-9)


@dataclass
class Progress:
    """Position of training: `epoch` counts from 1, `sums` has the epoch's batches so far."""

    epoch: int = 1
    sums: EpochSums = field(default_factory=EpochSums)
    best_epoch: int = 0
    best_loss: float = math.inf
    finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)


@torch.no_grad()
def evaluate(
    task: Task,
    model: nn.Module,
    batches: Batches,
    interrupted: Callable[[], bool] = never_interrupted,
) -> dict[str, float]:
    """Return the task's scores over all labels of `batches`."""
    training = model.training
    model.eval()
    transfer = Transfer(next(model.parameters()).device)
    pending, state = PendingMetrics(), None
    try:
        silent = None if processes.is_main() else True
        bar = tqdm(batches.epoch(0), "evaluating", len(batches), disable=silent, leave=False)
        for batch in bar:
            if processes.any_process(interrupted()):
                raise InterruptedRunError
            shard, weight = processes.shard(batch)
            judgement = task.judge(model, transfer(shard), state)
            state = judgement.state
            pending.add(judgement, weight, task.count(batch))
    finally:
        model.train(training)
    losses, corrects, counts, _ = zip(*pending.read())
    loss, correct = processes.all_reduce_sum([sum(losses), sum(corrects)])
    return task.scores(loss, int(correct), sum(counts))
