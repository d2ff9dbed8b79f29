"""Classify the IMDB reviews without a network: a regression on the n-grams that occur in a text.

python -m benchmarks.ngrams PATH_TO_IMDB

A logistic regression on words, pairs and triples, each scaled by its log-count ratio (Wang &
Manning 2012; Mesnil et al. 2014). The strength of the regularisation is chosen on films that are
held out of the training reviews. The regression is then fitted to all 25,000 training reviews, and
the test reviews are read once.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from benchmarks.options import at_least_one, parser_of
from benchmarks.table import markdown
from seqcells.lab.extras import packages_required

with packages_required():
    from scipy.optimize import minimize
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import CountVectorizer

    from seqcells.lab.text.reviews import Review
    from seqcells.lab.text.vocabulary import Vocabulary
    from seqcells.lab.training import command
    from seqcells.lab.training.config import DataConfig
    from seqcells.lab.training.tasks.base import describe
    from seqcells.lab.training.tasks.reviews import read_reviews

STRENGTHS = (0.03, 0.1, 0.3, 1.0)
SMOOTHING = 1.0  # added to the count of each n-gram in each class
ITERATIONS = 200  # at most; convergence takes some 40
TOLERANCE = 1e-7  # relative decrease of the objective at which the fit ends


class Regression(NamedTuple):
    """Weights of each n-gram's occurrence in a text."""

    weights: np.ndarray
    bias: float

    def logits(self, occurrences: csr_matrix) -> np.ndarray:
        return occurrences @ self.weights + self.bias


def ngrams_of(words: Sequence[str], longest: int) -> Iterator[str]:
    """Yield the words, the pairs, the triples, ... of a text."""
    for size in range(1, longest + 1):
        for start in range(len(words) - size + 1):
            yield " ".join(words[start : start + size])


def log_ratios(occurrences: csr_matrix, labels: np.ndarray) -> np.ndarray:
    """Return the log of each n-gram's share in positive texts over that in negative texts."""
    counts = [
        SMOOTHING + np.asarray(occurrences[labels == label].sum(0)).ravel() for label in (1, 0)
    ]
    positive, negative = (count / count.sum() for count in counts)
    return np.log(positive / negative)


def fit(
    occurrences: csr_matrix, labels: np.ndarray, strength: float, description: str
) -> Regression:
    """Minimise `strength` times the summed loss plus half the squared norm of the weights.

    The weights are those of the occurrences scaled by their log-count ratios.
    """
    ratios = log_ratios(occurrences, labels)
    inputs = occurrences.multiply(ratios.astype(np.float32)).tocsr()
    transposed = inputs.T.tocsr()
    signs = 2 * labels - 1

    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = parameters[:-1], parameters[-1]
        margins = signs * (inputs @ weights + bias)
        slopes = -strength * signs * np.exp(-np.logaddexp(0, margins))
        gradient = np.append(transposed @ slopes + weights, slopes.sum())
        return strength * np.logaddexp(0, -margins).sum() + weights @ weights / 2, gradient

    with tqdm(desc=description, unit=" steps", disable=None, leave=False) as bar:
        found = minimize(
            objective,
            np.zeros(inputs.shape[1] + 1),
            jac=True,
            method="L-BFGS-B",
            callback=lambda _: bar.update(),
            options={"maxiter": ITERATIONS, "ftol": TOLERANCE},
        ).x
    return Regression(found[:-1] * ratios, float(found[-1]))


def scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the accuracy and the mean loss."""
    losses = np.logaddexp(0, (1 - 2 * labels) * logits)
    return {"accuracy": float(((logits > 0) == labels).mean()), "loss": float(losses.mean())}


class Features:
    """Counts the n-grams of reviews: one column for each n-gram of the first reviews."""

    def __init__(self, reviews: Sequence[Review], longest: int):
        self._vocabulary = Vocabulary.build(
            [review.text for review in reviews], progress=sys.stderr.isatty()
        )
        self._counter = CountVectorizer(
            analyzer=lambda text: ngrams_of(self._vocabulary.tokenise(text), longest),
            binary=True,
            dtype=np.float32,
        )
        self.occurrences = self._counter.fit_transform(_texts(reviews))
        self.labels = labels_of(reviews)

    def of(self, reviews: Sequence[Review]) -> csr_matrix:
        return self._counter.transform(_texts(reviews))


def _texts(reviews: Sequence[Review]) -> Iterator[str]:
    bar = tqdm(reviews, "counting n-grams", disable=None, leave=False, unit=" texts")
    return (review.text for review in bar)


def labels_of(reviews: Sequence[Review]) -> np.ndarray:
    return np.array([review.label for review in reviews])


def choose(
    train: Sequence[Review], held_out: Sequence[Review], longest: int, strengths: Sequence[float]
) -> dict[float, dict[str, float]]:
    """Return the scores on the held-out reviews for each strength."""
    features = Features(train, longest)
    occurrences, labels = features.of(held_out), labels_of(held_out)
    return {
        strength: scores(
            fit(features.occurrences, features.labels, strength, f"strength {strength:g}").logits(
                occurrences
            ),
            labels,
        )
        for strength in strengths
    }


def main(argv: Sequence[str]) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("path", help="aclImdb_v1.tar.gz or its extracted folder")
    parser.add_argument(
        "--longest", type=at_least_one, default=3, help="words per n-gram (default: %(default)s)"
    )
    parser.add_argument(
        "--share", type=float, default=0.2, help="of validation reviews (default: %(default)s)"
    )
    options = parser.parse_args(argv)
    data = DataConfig(source="imdb", path=options.path, validation_share=options.share)
    reviews = read_reviews(data, ("train", "validation"))
    train, held_out = reviews["train"], reviews["validation"]
    found = choose(train, held_out, options.longest, STRENGTHS)
    print(f"n-grams of up to {options.longest} words; {len(held_out):,} validation reviews\n")
    rows = [
        [f"{strength:g}", f"{row['accuracy']:.2%}", f"{row['loss']:.4f}"]
        for strength, row in found.items()
    ]
    print("\n".join(markdown([], ["strength", "validation accuracy", "loss"], rows)) + "\n")

    best = min(found, key=lambda strength: found[strength]["loss"])
    features = Features(train + held_out, options.longest)
    regression = fit(features.occurrences, features.labels, best, "all training reviews")
    test = read_reviews(data, ("test",))["test"]
    result = scores(regression.logits(features.of(test)), labels_of(test))
    count = features.occurrences.shape[1]
    print(f"test {describe(result)}, strength {best:g}, {count:,} n-grams")


if __name__ == "__main__":
    sys.exit(command(main, sys.argv[1:]))
