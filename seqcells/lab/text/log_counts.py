"""Logistic regression on the n-grams that occur in a text, scaled by log-count ratios."""

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

SMOOTHING = 1.0  # added to the count of each n-gram in each class
STRENGTH = 0.3  # of the loss against the norm of the weights; chosen on validation reviews of IMDB


def log_ratios(
    occurrences: csr_matrix, labels: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the log of each n-gram's share in positive texts over that in negative texts.

    `occurrences (N, columns)` is 1 where an n-gram occurs in a text; labels are 0 or 1. Weights
    `(N,)` of the texts default to 1.
    """
    weights = np.ones(len(labels)) if weights is None else weights
    counts = [SMOOTHING + occurrences.T @ (weights * (labels == label)) for label in (1, 0)]
    positive, negative = (count / count.sum() for count in counts)
    return np.log(positive / negative)


def fit_regression(
    occurrences: csr_matrix,
    labels: np.ndarray,
    strength: float = STRENGTH,
    weights: np.ndarray | None = None,
) -> tuple[np.ndarray, float]:
    """Return the weight of each n-gram and the bias (Wang & Manning 2012; Mesnil et al. 2014).

    The occurrences are scaled by their log-count ratios. In that scale, the fit minimises
    `strength` times the summed loss plus half the squared norm of the weights and the bias. The
    loss of a text is multiplied by its weight. It solves the dual problem, which has one unknown
    per text.
    """
    classes = np.unique(labels).tolist()
    if classes != [0, 1]:
        raise ValueError(f"expected texts of the labels 0 and 1, got the labels {classes}")
    ratios = log_ratios(occurrences, labels, weights)
    scaled = occurrences.multiply(ratios.astype(np.float32)).tocsr()
    fitted = LogisticRegression(
        C=strength, solver="liblinear", dual=True, tol=1e-3, max_iter=1000, random_state=0
    ).fit(scaled, labels, sample_weight=weights)
    return fitted.coef_[0] * ratios, float(fitted.intercept_[0])
