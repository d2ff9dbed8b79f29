"""Language modelling: predict the next word or character."""

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
from seqcells.lab.training.tasks.reviews import build_vocabulary, read_reviews

EVALUATION_STREAMS = 64
MAX_LOSS = 100.0  # the perplexity of a larger loss is clipped, as it may overflow
MIN_FREQUENCY = 5  # rarer characters are unknown


class Language(Task):
    """Language model on streams of reviews, with truncated backpropagation through time.

    The state carries over between windows, gradients do not (Williams & Peng 1990). Each review
    starts from the initial state.
    """

    uses_all_parameters = False  # clusters of rare words may have no labels in a batch

    def load(self, vocabulary: Vocabulary | None = None) -> TrainingData:
        data = self.config.data
        reviews = read_reviews(data, ("train", "validation"))
        train = reviews["train"] + reviews["unsupervised"]
        if vocabulary is None:
            vocabulary = self._build_vocabulary(train)
        return TrainingData(
            vocabulary,
            TextStreams(
                self._encode(train, vocabulary),
                batch_size=self.batch_size,
                steps=data.steps,
                seed=self.config.training.seed,
            ),
            self._evaluation_streams(reviews["validation"], vocabulary),
        )

    def load_split(self, vocabulary: Vocabulary, split: str) -> TextStreams:
        return self._evaluation_streams(read_reviews(self.config.data, (split,))[split], vocabulary)

    def build(self, vocabulary: Vocabulary) -> nn.Module:
        return LanguageModel(self.config.model, len(vocabulary))

    def judge(
        self, model: nn.Module, batch: Batch, state: Any = None, smoothing: float = 0.0
    ) -> Judgement:
        directions, state = model(batch.inputs, state, batch.resets)
        loss = 0.0
        for hidden, labels in zip(directions, [batch.labels, previous_labels(batch)]):
            loss = loss + model.next.loss(hidden, labels, IGNORED)
        return Judgement(loss, state=state)

    def count(self, batch: Batch) -> int:
        directions = 1 + self.config.model.bidirectional
        targets = [batch.labels, previous_labels(batch)][:directions]
        return sum(int((labels != IGNORED).sum()) for labels in targets)

    def scores(self, loss: float, correct: int, count: int) -> dict[str, float]:
        return {"perplexity": math.exp(min(loss / count, MAX_LOSS)), "loss": loss / count}

    def _build_vocabulary(self, reviews: list[Review]) -> Vocabulary:
        if self.config.data.unit == "words":
            return build_vocabulary(reviews, self.config.data)
        texts = (review.text for review in reviews)
        return Vocabulary.of_characters(texts, min_frequency=MIN_FREQUENCY)

    def _evaluation_streams(self, reviews: list[Review], vocabulary: Vocabulary) -> TextStreams:
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


def previous_labels(batch: Batch) -> Tensor:
    """Return the labels of the backward direction: previous tokens, `IGNORED` at text starts."""
    previous = torch.cat(
        [batch.inputs.new_full((1, batch.inputs.shape[1]), IGNORED), batch.inputs[:-1]]
    )
    return previous.where((batch.inputs != END) & (batch.labels != IGNORED), IGNORED)
