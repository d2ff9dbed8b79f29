"""The regression on n-grams, on the embedded corpus in place of IMDB."""

import pytest
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


def test_occurrences_are_not_counted_twice(features):
    assert features.occurrences.max() == 1
    assert features.of([Review("an unseen pair of words", 1, "")]).nnz == 0


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
    losses = {(row[0], row[1]): float(row[3]) for row in rows_of(printed)}
    assert [float(strength) for _, strength in losses] == [*ngrams.STRENGTHS] * 2
    size, strength = min(losses, key=losses.__getitem__)
    last = printed.splitlines()[-1]
    assert last.startswith("test accuracy ")
    assert f"n-grams of up to {size} words, strength {strength}," in last
