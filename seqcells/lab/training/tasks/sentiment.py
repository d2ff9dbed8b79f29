"""Sentiment classification of reviews: many to one."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from seqcells.lab.models import build_model
from seqcells.lab.text.batches import Batch
from seqcells.lab.text.reviews import Review
from seqcells.lab.text.vocabulary import Vocabulary
from seqcells.lab.training import processes
from seqcells.lab.training.config import COUNTED
from seqcells.lab.training.devices import device_of
from seqcells.lab.training.initialisation import (
    fit_ngram_regression,
    start_from_file,
    start_from_neighbours,
    start_from_run,
)
from seqcells.lab.training.runs import Run
from seqcells.lab.training.tasks.base import Judgement, TrainingData, judge_binary, predict_logits
from seqcells.lab.training.tasks.reviews import ReviewTask, encode, read_reviews
from seqcells.lab.training.teachers import cached_predictions, open_teachers


class Sentiment(ReviewTask):
    """Binary classification: label 1 for positive reviews."""

    def load(self, vocabulary: Vocabulary | None = None) -> TrainingData:
        pretrained = self.config.training.start_from
        if vocabulary is None and pretrained is not None:
            vocabulary = Run.open(pretrained).load_vocabulary()
        return super().load(vocabulary)

    def pseudo_label(self, unlabelled: list[Review]) -> list[Review]:
        teachers = open_teachers(self.config)
        if not teachers:
            return []
        device = device_of(self.config.training)
        predictions = [
            cached_predictions(teacher, unlabelled, partial(predict, teacher, unlabelled, device))
            for teacher in teachers
        ]
        means = torch.stack(predictions).mean(0).tolist()
        return [review._replace(label=mean) for review, mean in zip(unlabelled, means)]

    def example(self, review: Review, vocabulary: Vocabulary) -> tuple[list[int], int | float]:
        return encode(review.text, vocabulary, self.config.data), review.label

    def build(self, vocabulary: Vocabulary) -> nn.Module:
        return build_model(self.config.model, len(vocabulary))

    def begin(self, model: nn.Module, data: TrainingData) -> str | None:
        sources = [self._begin_network(model, data.vocabulary)]
        if self.config.model.ngram_regression:
            texts, labels = data.train.examples, data.train.labels
            sources.append(fit_ngram_regression(model.regression, texts, labels))
        return " and ".join(filter(None, sources)) or None

    def _begin_network(self, model: nn.Module, vocabulary: Vocabulary) -> str | None:
        if self.config.training.start_from is not None:
            return start_from_run(model, Run.open(self.config.training.start_from))
        vectors = self.config.data.vectors
        if vectors == COUNTED:
            splits = read_reviews(self.config.data, ("train",))
            reviews = splits["train"] + splits["unsupervised"]
            texts = [vocabulary.encode(review.text) for review in reviews]
            return start_from_neighbours(model.inputs, texts)
        if vectors is not None:
            return start_from_file(model.inputs, vectors, vocabulary)
        return None

    def judge(
        self, model: nn.Module, batch: Batch, state: Any = None, smoothing: float = 0.0
    ) -> Judgement:
        size = self.config.training.adversarial
        if not (size and model.training):
            return judge_binary(model(batch.inputs, batch.lengths), batch.labels, smoothing)
        vectors = model.inputs(batch.inputs)
        logits = model.classify(vectors, batch.lengths)
        judgement = judge_binary(logits, batch.labels, smoothing)
        # The second pass has new dropout masks.
        moved = model.inputs(batch.inputs) + perturbation(judgement.loss, vectors, size)
        penalty = judge_binary(model.classify(moved, batch.lengths), batch.labels, smoothing).loss
        return judgement._replace(penalty=penalty)


def perturbation(loss: Tensor, vectors: Tensor, size: float) -> Tensor:
    """Return an adversarial perturbation of a batch's word vectors `(T, B, E)`.

    As in Miyato et al. (2017), section 3, it follows the gradient of the loss within each text. Its
    norm over the text is `size` times the mean norm of the vectors; the paper normalises each
    word's vectors to unit variance instead.
    """
    (gradient,) = torch.autograd.grad(loss, vectors, retain_graph=True)
    length = vectors.detach().norm(dim=-1)
    words = (length > 0).sum().clamp(min=1)
    norm = gradient.square().sum((0, 2), keepdim=True).sqrt()
    return size * (length.sum() / words) * gradient / norm.clamp(min=torch.finfo(norm.dtype).tiny)


def predict(run: Run, reviews: list[Review], device: torch.device) -> Tensor:
    """Return the probability of "positive" of each review by the model of a run."""
    task, vocabulary = Sentiment(run.config), run.load_vocabulary()
    model = task.load_best(run, vocabulary).to(device)
    batches = task.evaluation_batches([review._replace(label=0) for review in reviews], vocabulary)
    silent = None if processes.is_main() else True
    bar = tqdm(batches.epoch(0), "predicting labels", len(batches), disable=silent)
    return predict_logits(model, bar).sigmoid()
