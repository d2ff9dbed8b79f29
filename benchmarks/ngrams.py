"""Classify the IMDB reviews without a network: a regression on the n-grams that occur in a text.

python -m benchmarks.ngrams PATH_TO_IMDB

A logistic regression on words, pairs and triples, each scaled by its log-count ratio (Wang &
Manning 2012; Mesnil et al. 2014). The length of the n-grams and the strength of the fit are those
with the smallest loss on films held out of the training reviews. The regression is then fitted to
all training reviews, and the test reviews are read once.
"""

import sys
from collections.abc import Iterator, Sequence

import numpy as np
from tqdm import tqdm

from benchmarks.options import at_least_one, parser_of
from benchmarks.table import markdown
from seqcells.lab.extras import packages_required

with packages_required():
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import CountVectorizer

    from seqcells.lab.text.log_counts import fit_regression
    from seqcells.lab.text.reviews import Review
    from seqcells.lab.text.vocabulary import Vocabulary
    from seqcells.lab.training import command
    from seqcells.lab.training.config import DataConfig
    from seqcells.lab.training.tasks.base import describe
    from seqcells.lab.training.tasks.reviews import read_reviews

SHARE = 0.2  # of the training reviews, for validation
STRENGTHS = (0.03, 0.1, 0.3, 1.0)


def ngrams_of(words: Sequence[str], longest: int) -> Iterator[str]:
    """Yield the words, the pairs, the triples, ... of a text."""
    for size in range(1, longest + 1):
        for start in range(len(words) - size + 1):
            yield " ".join(words[start : start + size])


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


def validate(
    train: Sequence[Review], held_out: Sequence[Review], longest: int
) -> Iterator[tuple[int, float, dict[str, float]]]:
    """Yield the scores on the held-out reviews for each length of n-grams and each strength."""
    labels = labels_of(held_out)
    for size in range(1, longest + 1):
        features = Features(train, size)
        occurrences = features.of(held_out)
        for strength in tqdm(STRENGTHS, "fitting", disable=None, leave=False, unit=" fits"):
            weights, bias = fit_regression(features.occurrences, features.labels, strength)
            yield size, strength, scores(occurrences @ weights + bias, labels)


def main(argv: Sequence[str]) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("path", help="aclImdb_v1.tar.gz or its extracted folder")
    parser.add_argument(
        "--longest", type=at_least_one, default=3, help="words per n-gram (default: %(default)s)"
    )
    options = parser.parse_args(argv)
    data = DataConfig(source="imdb", path=options.path, validation_share=SHARE)
    reviews = read_reviews(data, ("train", "validation"))
    train, held_out = reviews["train"], reviews["validation"]
    found = list(validate(train, held_out, options.longest))
    print(f"{len(train):,} training and {len(held_out):,} validation reviews, by film\n")
    rows = [
        [str(size), f"{strength:g}", f"{row['accuracy']:.2%}", f"{row['loss']:.4f}"]
        for size, strength, row in found
    ]
    columns = ["longest n-gram", "strength", "validation accuracy", "loss"]
    print("\n".join(markdown([], columns, rows)) + "\n")

    size, strength, _ = min(found, key=lambda row: row[2]["loss"])
    features = Features(train + held_out, size)
    weights, bias = fit_regression(features.occurrences, features.labels, strength)
    test = read_reviews(data, ("test",))["test"]
    result = scores(features.of(test) @ weights + bias, labels_of(test))
    count = features.occurrences.shape[1]
    print(
        f"test {describe(result)}; n-grams of up to {size} words, strength {strength:g}, "
        f"{count:,} weights"
    )


if __name__ == "__main__":
    sys.exit(command(main, sys.argv[1:]))
