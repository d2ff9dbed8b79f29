"""Many to many, aligned: which word, or character, comes next? And one to many: to write."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from seqcells.lab.models.language import LanguageModel
from seqcells.lab.text.batches import IGNORED, Batch
from seqcells.lab.text.reviews import Review
from seqcells.lab.text.streams import END, TextStreams
from seqcells.lab.text.vocabulary import Vocabulary
from seqcells.lab.training.tasks.base import Judgement, Task, TrainingData
from seqcells.lab.training.tasks.reviews import count_words, read_reviews

EVALUATION_STREAMS = 64
MOST = 100.0  # of a loss whose exponential is written
MIN_CHARACTERS = 5  # a character that is rarer is unknown


class Language(Task):
    """Reviews as streams, read in windows; the state goes on from window to window.

    Gradients flow back within a window only (truncated backpropagation through time, Williams &
    Peng 1990). Each review begins from a fresh state.
    """

    uses_all_parameters = False  # a batch need not hold a rare word

    def load(self, vocabulary: Vocabulary | None = None) -> TrainingData:
        data = self.config.data
        reviews = read_reviews(data, ("train", "validation"))
        train = reviews["train"] + reviews["unsupervised"]
        if vocabulary is None:
            vocabulary = self._count(train)
        return TrainingData(
            vocabulary,
            TextStreams(
                self._encode(train, vocabulary),
                batch_size=self.batch_size,
                steps=data.steps,
                seed=self.config.training.seed,
            ),
            self._to_evaluate(reviews["validation"], vocabulary),
        )

    def load_split(self, vocabulary: Vocabulary, split: str) -> TextStreams:
        return self._to_evaluate(read_reviews(self.config.data, (split,))[split], vocabulary)

    def build(self, vocabulary: Vocabulary) -> nn.Module:
        return LanguageModel(self.config.model, len(vocabulary))

    def judge(
        self, model: nn.Module, batch: Batch, state: Any = None, smoothing: float = 0.0
    ) -> Judgement:
        directions, state = model(batch.inputs, state, batch.resets)
        loss = 0.0
        for hidden, labels in zip(directions, [batch.labels, labels_before(batch)]):
            loss = loss + model.next.loss(hidden, labels, IGNORED)
        return Judgement(loss, state=state)

    def count(self, batch: Batch) -> int:
        wanted = [batch.labels, labels_before(batch)][: 1 + self.config.model.bidirectional]
        return sum(int((labels != IGNORED).sum()) for labels in wanted)

    def scores(self, loss: float, correct: int, count: int) -> dict[str, float]:
        return {"perplexity": math.exp(min(loss / count, MOST)), "loss": loss / count}

    def _count(self, reviews: list[Review]) -> Vocabulary:
        if self.config.data.unit == "words":
            return count_words(reviews, self.config.data)
        texts = (review.text for review in reviews)
        return Vocabulary.of_characters(texts, min_frequency=MIN_CHARACTERS)

    def _to_evaluate(self, reviews: list[Review], vocabulary: Vocabulary) -> TextStreams:
        return TextStreams(
            self._encode(reviews, vocabulary),
            batch_size=EVALUATION_STREAMS,
            steps=self.config.data.steps,
            seed=0,
            shuffle=False,
        )

    def _encode(self, reviews: list[Review], vocabulary: Vocabulary) -> list[list[int]]:
        bar = tqdm(reviews, "encoding texts", disable=None, delay=1, unit=" texts")
        return [vocabulary.encode(review.text) for review in bar]


def labels_before(batch: Batch) -> Tensor:
    """For the backward direction: the token before each, none at the beginning of a text."""
    before = torch.cat(
        [batch.inputs.new_full((1, batch.inputs.shape[1]), IGNORED), batch.inputs[:-1]]
    )
    return before.where((batch.inputs != END) & (batch.labels != IGNORED), IGNORED)
