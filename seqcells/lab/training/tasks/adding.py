"""The adding problem: many to one, over long distances (Hochreiter & Schmidhuber 1997)."""

from typing import Any

import torch
from torch import Tensor, nn

from seqcells.lab.model_config import check_setting
from seqcells.lab.models.sequences import SequenceReader
from seqcells.lab.text.batches import Batch
from seqcells.lab.training.config import Config
from seqcells.lab.training.tasks.base import Judgement, judge_numbers
from seqcells.lab.training.tasks.generated import GeneratedTask

TOLERANCE = 0.04  # largest error of a correct answer (Martens & Sutskever 2011)


class Adding(GeneratedTask):
    """Predict the sum of the two marked numbers in a sequence of numbers from [0, 1].

    Each half of the sequence has one mark, so the distance between marks is half of the steps on
    average. Always predicting 1 has a mean squared error of 0.167.
    """

    def __init__(self, config: Config):
        super().__init__(config)
        steps = config.data.steps
        check_setting(steps >= 2, "data.steps", "at least 2, for two marks", steps)

    def make(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        steps, columns = self.config.data.steps, torch.arange(count)
        numbers = torch.rand(steps, count, generator=generator)
        half = steps // 2
        first = torch.randint(half, (count,), generator=generator)
        second = torch.randint(half, steps, (count,), generator=generator)
        marks = torch.zeros(steps, count)
        marks[first, columns] = marks[second, columns] = 1.0
        sums = numbers[first, columns] + numbers[second, columns]
        return torch.stack([numbers, marks], -1), sums

    def build(self, vocabulary: None) -> nn.Module:
        return SequenceReader(self.config.model, input_size=2, outputs=1)

    def judge(
        self, model: nn.Module, batch: Batch, state: Any = None, smoothing: float = 0.0
    ) -> Judgement:
        return judge_numbers(model(batch.inputs, batch.lengths)[:, 0], batch.labels, TOLERANCE)
