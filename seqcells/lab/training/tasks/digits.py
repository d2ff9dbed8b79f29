"""Sequential digits: images read pixel by pixel (as Le et al. 2015, with smaller images)."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from seqcells.lab.models.sequences import SequenceReader
from seqcells.lab.text.batches import Batch, check_start
from seqcells.lab.training.tasks.base import Task, TrainingData

PARTS = {"train": slice(0, 1197), "validation": slice(1197, 1397), "test": slice(1397, None)}
MAX_PIXEL = 16.0
SPLIT_SEED = 0


class Digits(Task):
    """Scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, read as 64 steps of one number.

    With the readout `last`, the state has to carry the first rows to the end.
    """

    reads_text = False

    def load(self, vocabulary: None = None) -> TrainingData:
        training = self.config.training
        train = Images(*_read("train"), self.batch_size, training.seed)
        return TrainingData(None, train, self.load_split(None, "validation"))

    def load_split(self, vocabulary: None, split: str) -> "Images":
        return Images(*_read(split), self.batch_size, None)

    def build(self, vocabulary: None) -> nn.Module:
        return SequenceReader(self.config.model, input_size=1, outputs=10)


class Images:
    """Batches of images `(N, T)`, shuffled every epoch unless `seed` is None."""

    def __init__(self, images: Tensor, labels: Tensor, batch_size: int, seed: int | None):
        self.images, self.labels, self.batch_size, self.seed = images, labels, batch_size, seed

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Iterate over the batches of epoch `number`, without the first `start`."""
        check_start(start, len(self))
        order = torch.arange(len(self.images))
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed + number * 1_000_003)
            order = torch.randperm(len(order), generator=generator)
        return map(self._batch, order.split(self.batch_size)[start:])

    def _batch(self, chosen: Tensor) -> Batch:
        inputs = self.images[chosen].T.unsqueeze(-1)
        lengths = torch.full((len(chosen),), len(inputs))
        return Batch(inputs, lengths, self.labels[chosen], chosen)


def _read(split: str) -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    images, labels = map(torch.from_numpy, load_digits(return_X_y=True))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SPLIT_SEED))
    chosen = order[PARTS[split]]
    return (images[chosen] / MAX_PIXEL).float(), labels[chosen].long()
