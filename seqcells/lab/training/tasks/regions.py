"""Region embeddings: predict the words of the region after, and before, each word."""

from typing import Any

import torch
from torch import Tensor, nn

from seqcells.lab.models.inputs import END
from seqcells.lab.models.regions import STRIDE, RegionModel, following_words, preceding_words
from seqcells.lab.text.batches import Batch
from seqcells.lab.text.vocabulary import Vocabulary
from seqcells.lab.training.config import COUNTED
from seqcells.lab.training.initialisation import start_from_neighbours
from seqcells.lab.training.tasks.base import Judgement, TrainingData
from seqcells.lab.training.tasks.language import Language

SCALE = 0.5  # standard deviation of counted word vectors


class Regions(Language):
    """Region embeddings on streams of reviews, as a language model (Johnson & Zhang 2016).

    A region ends with its text or its window.
    """

    def build(self, vocabulary: Vocabulary) -> nn.Module:
        return RegionModel(self.config.model, len(vocabulary))

    def begin(self, model: nn.Module, data: TrainingData) -> str | None:
        texts = data.train.texts
        model.next.start(torch.bincount(torch.cat(texts), minlength=len(data.vocabulary)))
        if self.config.data.vectors == COUNTED:
            return start_from_neighbours(model.inputs, [text.tolist() for text in texts], SCALE)
        return None

    def judge(
        self, model: nn.Module, batch: Batch, state: Any = None, smoothing: float = 0.0
    ) -> Judgement:
        directions, state = model(batch.inputs, state, batch.resets)
        loss, regions = 0.0, model.next
        for hidden, words in zip(directions, self._words(batch)):
            known = regions.are_known(words)
            loss = loss + regions.loss(hidden[STRIDE - 1 :: STRIDE][known], words[known])
        return Judgement(loss, state=state)

    def count(self, batch: Batch) -> int:
        # Regions of unknown words count too; they are rare. A short window may have no region.
        return max(1, sum(int((words != END).any(-1).sum()) for words in self._words(batch)))

    def scores(self, loss: float, correct: int, count: int) -> dict[str, float]:
        return {"loss": loss / count}

    def _words(self, batch: Batch) -> list[Tensor]:
        """Return the words of the regions of each direction `(T / STRIDE, B, size)`."""
        directions = [following_words, preceding_words][: 1 + self.config.model.bidirectional]
        texts = batch.inputs != END
        return [
            words(batch.inputs).where(texts.unsqueeze(-1), END)[STRIDE - 1 :: STRIDE]
            for words in directions
        ]
