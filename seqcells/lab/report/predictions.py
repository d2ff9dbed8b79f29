"""Predictions of a classifier on labelled reviews: confusion, calibration, errors, examples."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import binomtest
from torch import nn
from tqdm import tqdm

from seqcells.lab.text.reviews import Review
from seqcells.lab.text.vocabulary import Vocabulary
from seqcells.lab.training.tasks.sentiment import Sentiment

BINS = 10
LENGTH_GROUPS = 8


class Predictions(NamedTuple):
    """Labels (0 or 1), logits and numbers of words read of N reviews, each `(N,)`."""

    labels: np.ndarray
    logits: np.ndarray
    lengths: np.ndarray

    @property
    def probabilities(self) -> np.ndarray:
        """Probabilities of "positive"."""
        return torch.from_numpy(self.logits).sigmoid().numpy()

    @property
    def correct(self) -> np.ndarray:
        return (self.logits > 0) == (self.labels > 0)


class Bin(NamedTuple):
    """Reviews of similar predicted probability or length."""

    low: float
    high: float
    count: int
    mean: float  # predicted probability or length
    share: float  # fraction that is positive or correct


@torch.no_grad()
def predict(
    task: Sentiment, model: nn.Module, vocabulary: Vocabulary, reviews: Sequence[Review]
) -> Predictions:
    """Predict the reviews, in order."""
    labels, lengths = np.zeros((2, len(reviews)), dtype=int)
    logits = np.zeros(len(reviews))
    batches = task.evaluation_batches(reviews, vocabulary)
    bar = tqdm(batches.epoch(0), "predicting", len(batches), disable=None, delay=1, leave=False)
    for batch in bar:
        indices = batch.indices.numpy()
        labels[indices] = batch.labels.numpy()
        lengths[indices] = batch.lengths.numpy()
        logits[indices] = model(batch.inputs, batch.lengths).numpy()
    return Predictions(labels, logits, lengths)


def confusion(predicted: Predictions) -> np.ndarray:
    """Return the confusion matrix `(2, 2)`: labels by predictions, negative first."""
    counts = np.zeros((2, 2), dtype=int)
    np.add.at(counts, (predicted.labels, (predicted.logits > 0).astype(int)), 1)
    return counts


def reliability(predicted: Predictions) -> list[Bin]:
    """Bin the reviews by predicted probability, in ten bins of equal width; skip empty bins."""
    probabilities = predicted.probabilities
    bin_index = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    bins = []
    for number in np.unique(bin_index):
        mask = bin_index == number
        means = probabilities[mask].mean(), predicted.labels[mask].mean()
        bins.append(Bin(number / BINS, (number + 1) / BINS, int(mask.sum()), *map(float, means)))
    return bins


def calibration_error(bins: Sequence[Bin]) -> float:
    """Return the expected calibration error: the mean gap of predicted and true fractions."""
    counts = [one.count for one in bins]
    return float(np.average([abs(one.mean - one.share) for one in bins], weights=counts))


def by_length(predicted: Predictions) -> list[Bin]:
    """Bin the reviews by length, in groups of about equal size."""
    edges = np.unique(np.quantile(predicted.lengths, np.linspace(0, 1, LENGTH_GROUPS + 1)[1:-1]))
    group = np.searchsorted(edges, predicted.lengths)
    bins = []
    for number in np.unique(group):
        mask = group == number
        lengths = predicted.lengths[mask]
        means = lengths.mean(), predicted.correct[mask].mean()
        ends = int(lengths.min()), int(lengths.max())
        bins.append(Bin(*ends, int(mask.sum()), *map(float, means)))
    return bins


def confidence_interval(one: Bin) -> tuple[float, float]:
    """Return the 95% Wilson interval of the share."""
    interval = binomtest(round(one.share * one.count), one.count).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def most_confident_errors(
    predicted: Predictions, identities: Sequence[str], count: int
) -> list[int]:
    """Return the indices of up to `count` errors, the most confident first.

    Reviews of equal `identities` are copies, of which only the first is returned.
    """
    order = np.argsort(-np.abs(predicted.logits), kind="stable")
    first = {}
    for index in map(int, order):
        if not predicted.correct[index]:
            first.setdefault(identities[index], index)
    return list(first.values())[:count]


def examples(predicted: Predictions, identities: Sequence[str]) -> dict[int, str]:
    """Select example reviews of at most the median length: descriptions by index.

    For each label these are the most confident correct and the most confident wrong prediction.
    The least confident correct and the least confident wrong prediction follow. Reviews of equal
    `identities` are copies, and count as one.
    """
    short = predicted.lengths <= np.median(predicted.lengths)
    confidence = np.abs(predicted.logits)
    candidates = []
    for correct in (True, False):
        answers = short & (predicted.correct == correct)
        word = "correct" if correct else "wrong"
        for label, name in ((1, "positive"), (0, "negative")):
            mask = answers & (predicted.labels == label)
            description = f"most confident {word} prediction of a {name} review"
            candidates.append((description, mask, -confidence))
        candidates.append((f"least confident {word} prediction", answers, confidence))
    selected: dict[int, str] = {}
    shown = set()
    for description, mask, rank in candidates:
        if mask.any():
            index = int(np.flatnonzero(mask)[np.argmin(rank[mask])])
            if identities[index] not in shown:
                selected[index] = description
                shown.add(identities[index])
    return selected
