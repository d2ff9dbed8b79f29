"""Where training stands, and what an epoch has added up so far."""

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass
class EpochSums:
    """What an epoch has added up so far."""

    labels: int = 0
    tokens: int = 0
    loss: float = 0.0
    correct: int = 0
    norm: float = 0.0
    batches: int = 0
    steps: int = 0
    skipped: int = 0  # of the steps, those that overflowed in float16
    seconds: float = 0.0

    def mean_norm(self) -> float:
        """The mean norm of the gradients that moved the weights."""
        return self.norm / max(self.steps - self.skipped, 1)

    def speed(self) -> float:
        """Tokens a second."""
        return self.tokens / max(self.seconds, 1e-9)


@dataclass
class Progress:
    """Where training stands: `epoch` counts from 1, and so many batches of it are done."""

    epoch: int = 1
    sums: EpochSums = field(default_factory=EpochSums)
    best_epoch: int = 0
    best_loss: float = math.inf
    finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)
