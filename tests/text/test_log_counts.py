import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from seqcells.lab.text.log_counts import fit_regression, log_ratios

LABELS = np.array([1, 1, 1, 0, 0, 0])
OCCURRENCES = csr_matrix(
    [
        [1, 1, 0, 0],
        [1, 0, 1, 0],
        [0, 1, 1, 0],
        [0, 0, 1, 1],
        [0, 1, 0, 1],
        [1, 0, 0, 1],
    ],
    dtype=np.float32,
)


def test_log_ratios_of_smoothed_shares():
    """The six occurrences of each class become ten, with one more for each of four columns."""
    expected = np.log([3 / 2, 3 / 2, 3 / 2, 1 / 4])
    np.testing.assert_allclose(log_ratios(OCCURRENCES, LABELS), expected, rtol=1e-6)


def test_weights_minimise_the_loss_of_scaled_occurrences():
    weights, bias = fit_regression(OCCURRENCES, LABELS, 0.7)
    ratios = log_ratios(OCCURRENCES, LABELS)
    scaled = OCCURRENCES.toarray() * ratios
    primal = LogisticRegression(C=0.7, solver="liblinear", tol=1e-8).fit(scaled, LABELS)
    np.testing.assert_allclose(weights, primal.coef_[0] * ratios, atol=2e-3)
    assert bias == pytest.approx(primal.intercept_[0], abs=2e-3)


def test_a_weight_of_two_is_a_text_twice():
    weights = np.array([2, 1, 1, 1, 2, 1])
    twice = np.repeat(np.arange(6), weights)
    once = fit_regression(OCCURRENCES, LABELS, 0.7, weights)
    again = fit_regression(OCCURRENCES[twice], LABELS[twice], 0.7)
    np.testing.assert_allclose(once[0], again[0], atol=2e-3)
    assert once[1] == pytest.approx(again[1], abs=2e-3)


def test_texts_of_one_class_raise():
    with pytest.raises(ValueError, match=r"expected texts of the labels 0 and 1, got .* \[1\]"):
        fit_regression(OCCURRENCES, np.ones(6, dtype=int))
