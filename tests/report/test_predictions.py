"""Confusion, calibration and examples against NumPy references."""

from itertools import pairwise

import numpy as np
import pytest

from seqcells.lab.report import predictions
from seqcells.lab.report.predictions import Bin, Predictions


@pytest.fixture
def predicted():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 500)
    labels = (rng.random(500) < 1 / (1 + np.exp(-0.5 * logits))).astype(int)
    return Predictions(labels, logits, rng.integers(1, 90, 500))


def test_confusion(predicted):
    counts = predictions.confusion(predicted)
    for label in (0, 1):
        for prediction in (0, 1):
            expected = sum((predicted.labels == label) & ((predicted.logits > 0) == prediction))
            assert counts[label, prediction] == expected
    assert counts.trace() == predicted.correct.sum()


def test_calibration(predicted):
    probabilities = 1 / (1 + np.exp(-predicted.logits))
    error = 0.0
    for low in np.arange(10) / 10:
        own = (probabilities >= low) & (probabilities < low + 0.1)
        gap = probabilities[own].mean() - predicted.labels[own].mean()
        error += own.sum() / 500 * abs(gap)
    bins = predictions.reliability(predicted)
    assert predictions.calibration_error(bins) == pytest.approx(error, abs=1e-9)
    assert error > 0.05
    assert sum(one.count for one in bins) == 500


def test_confident_correct_model_is_calibrated():
    labels = np.array([0, 1, 1])
    bins = predictions.reliability(Predictions(labels, np.array([-900.0, 900, 900]), np.ones(3)))
    assert bins == [Bin(0, 0.1, 1, 0, 0), Bin(0.9, 1, 2, 1, 1)]
    assert predictions.calibration_error(bins) == 0


def test_length_bins_partition_the_reviews(predicted):
    bins = predictions.by_length(predicted)
    assert sum(one.count for one in bins) == 500
    assert all(before.high < after.low for before, after in pairwise(bins))
    assert max(one.count for one in bins) < 2 * min(one.count for one in bins)
    for one in bins:
        own = (predicted.lengths >= one.low) & (predicted.lengths <= one.high)
        assert one.share == pytest.approx(predicted.correct[own].mean())
        assert one.mean == pytest.approx(predicted.lengths[own].mean())
        low, high = predictions.confidence_interval(one)
        assert 0 <= low < one.share < high <= 1


def test_texts_of_equal_length_share_a_bin():
    same = Predictions(np.array([0, 1]), np.array([-1.0, -1.0]), np.array([7, 7]))
    assert predictions.by_length(same) == [Bin(7, 7, 2, 7, 0.5)]


def test_errors_are_ordered_by_confidence(predicted):
    indices = predictions.most_confident_errors(predicted, range(500), 10)
    assert len(indices) == 10
    assert not predicted.correct[indices].any()
    confidence = np.abs(predicted.logits)
    assert list(confidence[indices]) == sorted(confidence[indices], reverse=True)
    assert confidence[indices[0]] == confidence[~predicted.correct].max()


def test_examples_match_their_descriptions(predicted):
    selected = predictions.examples(predicted, range(500))
    assert len(selected) == 6
    assert len(set(selected.values())) == 6
    for index, reason in selected.items():
        assert predicted.correct[index] == ("correct" in reason)
        assert predicted.lengths[index] <= np.median(predicted.lengths)
        if "review" in reason:
            assert predicted.labels[index] == ("positive" in reason)


def test_perfect_model_has_no_examples_of_errors():
    perfect = Predictions(np.array([0, 1]), np.array([-1.0, 2.0]), np.array([5, 5]))
    assert predictions.most_confident_errors(perfect, [0, 1], 10) == []
    assert all("correct" in reason for reason in predictions.examples(perfect, [0, 1]).values())


def test_copies_count_as_one_review():
    labels, logits = np.array([0, 0, 0, 0, 1]), np.array([3.0, 3.0, 2.0, 3.0, 1.0])
    predicted, copies = Predictions(labels, logits, np.full(5, 4)), ["a", "a", "b", "a", "c"]
    assert predictions.most_confident_errors(predicted, copies, 10) == [0, 2]
    selected = predictions.examples(predicted, copies)
    assert sorted(copies[index] for index in selected) == ["a", "b", "c"]
