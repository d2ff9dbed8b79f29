"""Copying memory: many to many, after a long delay (Hochreiter & Schmidhuber 1997)."""

import torch
from torch import Tensor, nn

from seqcells.lab.models.sequences import SequenceTagger
from seqcells.lab.text.batches import IGNORED
from seqcells.lab.training.tasks.generated import GeneratedTask

SYMBOLS, LENGTH = 8, 10
BLANK, SIGNAL = SYMBOLS + 1, SYMBOLS + 2  # 0 is padding


class Copying(GeneratedTask):
    """Read ten symbols, `data.steps` blanks and a signal, then repeat the symbols in order.

    As in Arjovsky et al. (2016), except that only the ten answers have labels. Without memory, one
    in eight is correct and the loss is log 8 = 2.079.
    """

    def make(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        symbols = torch.randint(1, SYMBOLS + 1, (LENGTH, count), generator=generator)
        blanks = torch.full((self.config.data.steps, count), BLANK)
        inputs = torch.cat([symbols, blanks, torch.full((LENGTH, count), BLANK)])
        inputs[-LENGTH - 1] = SIGNAL
        labels = torch.full_like(inputs, IGNORED)
        labels[-LENGTH:] = symbols - 1
        return inputs, labels

    def build(self, vocabulary: None) -> nn.Module:
        return SequenceTagger(self.config.model, SIGNAL + 1, tags=SYMBOLS)
