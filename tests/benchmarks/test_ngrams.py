"""The regression on n-grams, on the embedded corpus in place of IMDB."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from test_benchmarks import rows_of

from benchmarks import ngrams
from seqcells.lab.text.corpus import make_corpus
from seqcells.lab.text.reviews import Review
from seqcells.lab.training.tasks import reviews as review_tasks

TEXTS = ["good good film", "good plot", "not good", "bad plot", "bad bad film", "not bad"]
LABELS = [1, 1, 0, 0, 0, 1]


@pytest.fixture
def features():
    reviews = [Review(text, label, text) for text, label in zip(TEXTS, LABELS)]
    return ngrams.Features(reviews, longest=2)


def test_log_ratio_of_an_ngram(features):
    """The smoothed counts of a class are divided by their total."""
    ratios = ngrams.log_ratios(features.occurrences, features.labels)
    positive = features.occurrences[[0, 1, 5]].sum() + len(ratios)
    negative = features.occurrences[[2, 3, 4]].sum() + len(ratios)
    column = features.of([Review("good", 1, "")]).indices[0]
    assert ratios[column] == pytest.approx(np.log(((1 + 2) / positive) / ((1 + 1) / negative)))


def test_occurrences_are_not_counted_twice(features):
    assert features.occurrences.max() == 1
    assert features.of([Review("an unseen pair of words", 1, "")]).nnz == 0


def test_fit_equals_a_logistic_regression(features):
    ratios = ngrams.log_ratios(features.occurrences, features.labels)
    scaled = features.occurrences.multiply(ratios).tocsr()
    theirs = LogisticRegression(C=0.7, tol=1e-8).fit(scaled, features.labels)
    ours = ngrams.fit(features.occurrences, features.labels, 0.7, "test")
    np.testing.assert_allclose(
        ours.logits(features.occurrences), theirs.decision_function(scaled), atol=2e-3
    )


def test_last_line_is_the_result_on_test(monkeypatch, capsys):
    corpus = make_corpus(train=200, validation=2, test=60)
    requested = []

    def read_imdb(path, *, splits, **_):
        requested.append(splits)
        return {split: corpus[split] for split in splits}

    monkeypatch.setattr(review_tasks, "read_imdb", read_imdb)
    ngrams.main(["anywhere", "--longest", "2"])
    assert requested == [["train"], ["test"]]
    printed = capsys.readouterr().out
    losses = {row[0]: float(row[2]) for row in rows_of(printed)}
    assert list(losses) == [f"{strength:g}" for strength in ngrams.STRENGTHS]
    best = min(losses, key=losses.__getitem__)
    last = printed.splitlines()[-1]
    assert last.startswith("test accuracy ")
    assert f"strength {best}," in last
