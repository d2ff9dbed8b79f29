"""How right a classifier was, against a few lines of NumPy."""

from itertools import pairwise

import numpy as np
import pytest

from seqcells.lab.report import outcome
from seqcells.lab.report.outcome import Bin, Outcome


@pytest.fixture
def found():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 500)
    labels = (rng.random(500) < 1 / (1 + np.exp(-0.5 * logits))).astype(int)
    return Outcome(labels, logits, rng.integers(1, 90, 500))


def test_confusion(found):
    counts = outcome.confusion(found)
    for label in (0, 1):
        for said in (0, 1):
            expected = sum((found.labels == label) & ((found.logits > 0) == said))
            assert counts[label, said] == expected
    assert counts.trace() == found.right.sum()


def test_calibration(found):
    probabilities = 1 / (1 + np.exp(-found.logits))
    error = 0.0
    for low in np.arange(10) / 10:
        own = (probabilities >= low) & (probabilities < low + 0.1)
        gap = probabilities[own].mean() - found.labels[own].mean()
        error += own.sum() / 500 * abs(gap)
    bins = outcome.reliability(found)
    assert outcome.calibration_error(bins) == pytest.approx(error, abs=1e-9)
    assert error > 0.05
    assert sum(one.count for one in bins) == 500


def test_a_certain_and_right_model_is_calibrated():
    labels = np.array([0, 1, 1])
    bins = outcome.reliability(Outcome(labels, np.array([-900.0, 900, 900]), np.ones(3)))
    assert bins == [Bin(0, 0.1, 1, 0, 0), Bin(0.9, 1, 2, 1, 1)]
    assert outcome.calibration_error(bins) == 0


def test_groups_by_length_part_the_reviews(found):
    bins = outcome.by_length(found)
    assert sum(one.count for one in bins) == 500
    assert all(before.high < after.low for before, after in pairwise(bins))
    assert max(one.count for one in bins) < 2 * min(one.count for one in bins)
    for one in bins:
        own = (found.lengths >= one.low) & (found.lengths <= one.high)
        assert one.share == pytest.approx(found.right[own].mean())
        assert one.mean == pytest.approx(found.lengths[own].mean())
        low, high = outcome.uncertainty(one)
        assert 0 <= low < one.share < high <= 1


def test_texts_of_one_length_are_one_group():
    same = Outcome(np.array([0, 1]), np.array([-1.0, -1.0]), np.array([7, 7]))
    assert outcome.by_length(same) == [Bin(7, 7, 2, 7, 0.5)]


def test_mistakes_come_surest_first(found):
    places = outcome.surest_mistakes(found, 10)
    assert len(places) == 10
    assert not found.right[places].any()
    sure = np.abs(found.logits)
    assert list(sure[places]) == sorted(sure[places], reverse=True)
    assert sure[places[0]] == sure[~found.right].max()


def test_examples_are_what_they_are_called(found):
    chosen = outcome.examples(found)
    assert len(chosen) == 6
    assert len(set(chosen.values())) == 6
    for place, reason in chosen.items():
        assert found.right[place] == ("right" in reason)
        assert found.lengths[place] <= np.median(found.lengths)
        if "review" in reason:
            assert found.labels[place] == ("positive" in reason)


def test_without_mistakes_there_are_no_examples_of_them():
    perfect = Outcome(np.array([0, 1]), np.array([-1.0, 2.0]), np.array([5, 5]))
    assert outcome.surest_mistakes(perfect, 10) == []
    assert all("right" in reason for reason in outcome.examples(perfect).values())
