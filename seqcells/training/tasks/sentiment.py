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
from seqcells.training.adversarial import perturbation
from seqcells.training.checkpoints import load_checkpoint
from seqcells.training.config import DataConfig
from seqcells.training.runs import Run
from seqcells.training.tasks.base import Judgement, TrainingData, judge_sides
from seqcells.training.tasks.reviews import ReviewTask, encode


class Sentiment(ReviewTask):
    """One label a text, 1 for positive."""

    answers = True

    def load(self, vocabulary: Vocabulary | None = None) -> TrainingData:
        earlier = self.config.training.start_from
        if vocabulary is None and earlier is not None:
            vocabulary = Run.open(earlier).load_vocabulary()
        return super().load(vocabulary)

    def example(self, review: Review, vocabulary: Vocabulary) -> tuple[list[int], int]:
        return encode(review.text, vocabulary, self.config.data), review.label

    def build(self, vocabulary: Vocabulary) -> nn.Module:
        return build_model(self.config.model, len(vocabulary))

    def begin(self, model: nn.Module, vocabulary: Vocabulary) -> str | None:
        if self.config.training.start_from is not None:
            return start_from_run(model, Run.open(self.config.training.start_from))
        if self.config.data.vectors is not None:
            return start_from_vectors(model, self.config.data, vocabulary)
        return None

    def judge(
        self, model: nn.Module, batch: Batch, state: Any = None, smoothing: float = 0.0
    ) -> Judgement:
        size = self.config.training.adversarial
        if not (size and model.training):
            return judge_sides(model(batch.inputs, batch.lengths), batch.labels, smoothing)
        vectors = model.inputs(batch.inputs)
        logits = model.classify(vectors, batch.lengths)
        judgement = judge_sides(logits, batch.labels, smoothing)
        # Other words are dropped the second time.
        moved = model.inputs(batch.inputs) + perturbation(judgement.loss, vectors, size)
        penalty = judge_sides(model.classify(moved, batch.lengths), batch.labels, smoothing).loss
        return judgement._replace(penalty=penalty)

    def answer(self, model: nn.Module, vocabulary: Vocabulary, text: str) -> str:
        tokens = torch.tensor(encode(text, vocabulary, self.config.data)).unsqueeze(1)
        probability = model(tokens, torch.tensor([len(tokens)])).sigmoid().item()
        return f"{probability:.4f}  {'positive' if probability > 0.5 else 'negative'}  {text}"


def start_from_vectors(model: nn.Module, config: DataConfig, vocabulary: Vocabulary) -> str:
    """Copy pretrained word vectors into the model; say how many words were found."""
    vectors, found = read_vectors(config.vectors, vocabulary.words, progress=sys.stderr.isatty())
    words = model.inputs.words
    if vectors.shape[1] != words.embedding_dim:
        raise ValueError(
            f"model.embedding_size: expected {vectors.shape[1]}, "
            f"the size of the vectors in {config.vectors}, got {words.embedding_dim}"
        )
    with torch.no_grad():
        words.weight.copy_(vectors)
    return f"vectors of {found:,} of {len(vocabulary) - 1:,} words from {config.vectors}"


def start_from_run(model: nn.Module, run: Run) -> str:
    """Copy the word vectors and the recurrence of a language model that was trained before.

    Vectors of word pairs, which it need not have, stay as they are.
    """
    weights = load_checkpoint(run.best, run.config)["model"]
    own = model.state_dict()
    wanted = [name for name in own if name.startswith(("inputs.words.", "recurrent."))]
    for name in wanted:
        if name not in weights or weights[name].shape != own[name].shape:
            got = f"shape {tuple(weights[name].shape)}" if name in weights else "none"
            raise ValueError(
                f"training.start_from: expected {name} of shape {tuple(own[name].shape)} in "
                f"{run.folder}, got {got}; give model.cell, sizes and directions as there"
            )
    model.load_state_dict({name: weights[name] for name in wanted}, strict=False)
    return f"words and recurrence from {run.folder}"
