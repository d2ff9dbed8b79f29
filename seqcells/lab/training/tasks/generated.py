"""Tasks whose examples are made as they are needed: no example comes twice in training."""

import random
from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from seqcells.lab.text.batches import Batch, check_start
from seqcells.lab.training.tasks.base import Task, TrainingData

EVALUATED, AT_ONCE = 1000, 250  # examples of a validation or a test, and how many in a batch


class GeneratedTask(Task):
    """Examples of `data.steps` steps, out of nothing but the seed, the epoch and their place."""

    reads_text = False

    @abstractmethod
    def make(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Inputs `(T, B)` or `(T, B, I)` and labels `(B,)` or `(T, B)` of so many examples."""

    def load(self, vocabulary: None = None) -> TrainingData:
        training, data = self.config.training, self.config.data
        train = GeneratedBatches(self, "train", data.examples, self.batch_size, training.seed)
        return TrainingData(None, train, self.load_split(None, "validation"))

    def load_split(self, vocabulary: None, split: str) -> "GeneratedBatches":
        return GeneratedBatches(self, split, EVALUATED, AT_ONCE, 0)


class GeneratedBatches:
    """Batches that are made when they are asked for, always the same for the same epoch."""

    def __init__(self, task: GeneratedTask, split: str, examples: int, batch_size: int, seed: int):
        self.task, self.split, self.seed = task, split, seed
        self.examples, self.batch_size = examples, batch_size

    def __len__(self) -> int:
        return -(-self.examples // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number`, without the first `start` of them."""
        check_start(start, len(self))
        return (self._batch(number, place) for place in range(start, len(self)))

    def _batch(self, number: int, place: int) -> Batch:
        first = place * self.batch_size
        count = min(self.batch_size, self.examples - first)
        generator = torch.Generator().manual_seed(self._seed(number, place))
        inputs, labels = self.task.make(count, generator)
        return Batch(
            inputs, torch.full((count,), len(inputs)), labels, torch.arange(first, first + count)
        )

    def _seed(self, number: int, place: int) -> int:
        """One of its own for each batch of each epoch, split and seed."""
        name = f"{self.split} {self.seed} {number} {place}"
        return random.Random(name).getrandbits(62)
