"""What a classifier said of many reviews, and how right it was."""

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
GROUPS = 8  # of reviews by their length


class Outcome(NamedTuple):
    """For each of N reviews its label (0, 1), its logit, and how many words of it were read."""

    labels: np.ndarray
    logits: np.ndarray
    lengths: np.ndarray

    @property
    def probabilities(self) -> np.ndarray:
        """Of "positive"."""
        return torch.from_numpy(self.logits).sigmoid().numpy()

    @property
    def right(self) -> np.ndarray:
        return (self.logits > 0) == (self.labels > 0)


class Bin(NamedTuple):
    """Reviews of about the same predicted probability, or length: how many, and their means."""

    low: float
    high: float
    count: int
    mean: float  # of what they are sorted by
    share: float  # that is positive, or right


@torch.no_grad()
def predict(
    task: Sentiment, model: nn.Module, vocabulary: Vocabulary, reviews: Sequence[Review]
) -> Outcome:
    """What the model says of these reviews, in their order."""
    labels, lengths = np.zeros((2, len(reviews)), dtype=int)
    logits = np.zeros(len(reviews))
    batches = task.to_evaluate(reviews, vocabulary)
    bar = tqdm(batches.epoch(0), "predicting", len(batches), disable=None, delay=1, leave=False)
    for batch in bar:
        places = batch.indices.numpy()
        labels[places] = batch.labels.numpy()
        lengths[places] = batch.lengths.numpy()
        logits[places] = model(batch.inputs, batch.lengths).numpy()
    return Outcome(labels, logits, lengths)


def confusion(outcome: Outcome) -> np.ndarray:
    """Counts `(2, 2)`: rows by the label, columns by the prediction, negative first."""
    counts = np.zeros((2, 2), dtype=int)
    np.add.at(counts, (outcome.labels, (outcome.logits > 0).astype(int)), 1)
    return counts


def reliability(outcome: Outcome) -> list[Bin]:
    """The reviews in ten equal parts of the predicted probability, those without any left out."""
    probabilities = outcome.probabilities
    place = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    bins = []
    for number in np.unique(place):
        own = place == number
        means = probabilities[own].mean(), outcome.labels[own].mean()
        bins.append(Bin(number / BINS, (number + 1) / BINS, int(own.sum()), *map(float, means)))
    return bins


def calibration_error(bins: Sequence[Bin]) -> float:
    """The expected calibration error: how far predicted and true shares are apart, on average."""
    counts = [one.count for one in bins]
    return float(np.average([abs(one.mean - one.share) for one in bins], weights=counts))


def by_length(outcome: Outcome) -> list[Bin]:
    """The share that is right in groups of about as many reviews, from short to long."""
    edges = np.unique(np.quantile(outcome.lengths, np.linspace(0, 1, GROUPS + 1)[1:-1]))
    group = np.searchsorted(edges, outcome.lengths)
    bins = []
    for number in np.unique(group):
        own = group == number
        lengths = outcome.lengths[own]
        means = lengths.mean(), outcome.right[own].mean()
        ends = int(lengths.min()), int(lengths.max())
        bins.append(Bin(*ends, int(own.sum()), *map(float, means)))
    return bins


def uncertainty(one: Bin) -> tuple[float, float]:
    """Wilson's 95% interval of the share."""
    interval = binomtest(round(one.share * one.count), one.count).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def surest_mistakes(outcome: Outcome, most: int) -> list[int]:
    """The places of the wrong answers, the surest first."""
    order = np.argsort(-np.abs(outcome.logits), kind="stable")
    return [int(place) for place in order if not outcome.right[place]][:most]


def examples(outcome: Outcome) -> dict[int, str]:
    """The places of some reviews of at most the median length, each with what it is one of.

    Of the positive and of the negative ones, the one about which the model is right and surest,
    and the one about which it is wrong and surest; then the right answer and the wrong one that
    are nearest to a half.
    """
    short = outcome.lengths <= np.median(outcome.lengths)
    sure = np.abs(outcome.logits)
    wanted = []
    for right in (True, False):
        answers = short & (outcome.right == right)
        word = "right" if right else "wrong"
        for label, name in ((1, "positive"), (0, "negative")):
            own = answers & (outcome.labels == label)
            wanted.append((f"the surest {word} answer to a {name} review", own, -sure))
        wanted.append((f"the least sure {word} answer", answers, sure))
    chosen = {}
    for description, own, rank in wanted:
        if own.any():
            place = int(np.flatnonzero(own)[np.argmin(rank[own])])
            chosen.setdefault(place, description)
    return chosen
