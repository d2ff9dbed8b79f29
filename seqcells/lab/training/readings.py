"""Figures of batches, which stay on the device until they are read: to read them is to wait."""

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor

from seqcells.lab.training.tasks import Judgement


class Reading(NamedTuple):
    """What one process found in a batch: `loss` and `correct` are sums over its own labels."""

    loss: float
    correct: float
    labels: int  # of all processes
    norm: float | None  # of the gradient, if the weights are moved after this batch


class Readings:
    """What is found in batch after batch, until it is taken."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._losses: list[Tensor] = []
        self._correct: list[Tensor] = []
        self._norms: dict[int, Tensor] = {}  # by the batch's place
        self._counts: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._losses)

    def add(
        self, judgement: Judgement, weight: float, labels: int, norm: Tensor | None = None
    ) -> None:
        """Add a batch; a process that has no part in it has a weight of zero."""
        if norm is not None:
            self._norms[len(self)] = norm
        self._losses.append(judgement.loss.detach())
        if judgement.correct is not None:
            self._correct.append(judgement.correct)
        self._counts.append((weight, labels))

    def take(self) -> list[Reading]:
        """Read what was added since the last time."""
        losses, norms = _read(self._losses), dict(zip(self._norms, _read(self._norms.values())))
        correct = _read(self._correct) or [0.0] * len(losses)
        taken = [
            Reading(loss * weight, right * weight, labels, norms.get(place))
            for place, (loss, right, (weight, labels)) in enumerate(
                zip(losses, correct, self._counts, strict=True)
            )
        ]
        self._clear()
        return taken


def _read(scalars: Collection[Tensor]) -> list[float]:
    """The values of tensors on one device, in one transfer."""
    return torch.stack(list(scalars)).tolist() if scalars else []
