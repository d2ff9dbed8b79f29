"""Tasks with generated examples: training does not repeat an example."""

import random
from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from seqcells.lab.text.batches import Batch, check_start
from seqcells.lab.training.tasks.base import Task, TrainingData

EVALUATION_EXAMPLES, EVALUATION_BATCH = 1000, 250


class GeneratedTask(Task):
    """Base class. Examples depend only on split, seed, epoch and position."""

    reads_text = False

    @abstractmethod
    def make(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return inputs `(T, B)` or `(T, B, I)` and labels `(B,)` or `(T, B)`, with B = `count`."""

    def load(self, vocabulary: None = None) -> TrainingData:
        training, data = self.config.training, self.config.data
        train = GeneratedBatches(self, "train", data.examples, self.batch_size, training.seed)
        return TrainingData(None, train, self.load_split(None, "validation"))

    def load_split(self, vocabulary: None, split: str) -> "GeneratedBatches":
        return GeneratedBatches(self, split, EVALUATION_EXAMPLES, EVALUATION_BATCH, 0)


class GeneratedBatches:
    """Lazily generated batches; an epoch depends only on its number."""

    def __init__(self, task: GeneratedTask, split: str, examples: int, batch_size: int, seed: int):
        self.task, self.split, self.seed = task, split, seed
        self.examples, self.batch_size = examples, batch_size

    def __len__(self) -> int:
        return -(-self.examples // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Iterate over the batches of epoch `number`, without the first `start`."""
        check_start(start, len(self))
        return (self._batch(number, index) for index in range(start, len(self)))

    def _batch(self, number: int, index: int) -> Batch:
        first = index * self.batch_size
        count = min(self.batch_size, self.examples - first)
        generator = torch.Generator().manual_seed(self._seed(number, index))
        inputs, labels = self.task.make(count, generator)
        return Batch(
            inputs, torch.full((count,), len(inputs)), labels, torch.arange(first, first + count)
        )

    def _seed(self, number: int, index: int) -> int:
        """Return a different seed for each batch, epoch, split and seed of the run."""
        name = f"{self.split} {self.seed} {number} {index}"
        return random.Random(name).getrandbits(62)
