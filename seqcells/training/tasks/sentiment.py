"""Many to one: is a review positive?"""

import sys
from typing import Any

import torch
from torch import nn

from seqcells.models import build_model
from seqcells.text.batches import Batch
from seqcells.text.reviews import Review
from seqcells.text.vectors import read_vectors
from seqcells.text.vocabulary import Vocabulary
from seqcells.training.config import DataConfig
from seqcells.training.tasks.base import Judgement, judge_sides
from seqcells.training.tasks.reviews import ReviewTask, encode


class Sentiment(ReviewTask):
    """One label a text, 1 for positive."""

    def example(self, review: Review, vocabulary: Vocabulary) -> tuple[list[int], int]:
        return encode(review.text, vocabulary, self.config.data), review.label

    def build(self, vocabulary: Vocabulary) -> nn.Module:
        return build_model(self.config.model, len(vocabulary))

    def judge(
        self, model: nn.Module, batch: Batch, state: Any = None, smoothing: float = 0.0
    ) -> Judgement:
        return judge_sides(model(batch.inputs, batch.lengths), batch.labels, smoothing)


def start_from_vectors(model: nn.Module, config: DataConfig, vocabulary: Vocabulary) -> int:
    """Copy pretrained word vectors into the model; return how many words were found."""
    vectors, found = read_vectors(config.vectors, vocabulary.words, progress=sys.stderr.isatty())
    words = model.inputs.words
    if vectors.shape[1] != words.embedding_dim:
        raise ValueError(
            f"model.embedding_size: expected {vectors.shape[1]}, "
            f"the size of the vectors in {config.vectors}, got {words.embedding_dim}"
        )
    with torch.no_grad():
        words.weight.copy_(vectors)
    return found
