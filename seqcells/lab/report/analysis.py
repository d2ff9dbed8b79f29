"""Analysis of a sentiment classifier for the report."""

import re
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from seqcells.lab.explanation import Explanation
from seqcells.lab.prediction import Classifier
from seqcells.lab.report import figures, inspection, predictions
from seqcells.lab.text.reviews import Review
from seqcells.lab.training import Run
from seqcells.lab.training.tasks.sentiment import Sentiment

MISTAKES = 10
NAMES = ("negative", "positive")
PREVIEW = 140  # characters


def analyse(run: Run, reviews: Sequence[Review]) -> dict[str, Any]:
    """Predict all reviews, explain some word by word, and return the template's variables."""
    task, classifier = Sentiment(run.config), Classifier(run)
    model, vocabulary = classifier.model, classifier.vocabulary
    predicted = predictions.predict(task, model, vocabulary, reviews)
    bins = predictions.reliability(predicted)
    norms = inspection.gradient_reach(task, model, vocabulary, reviews, predicted)
    return {
        "count": len(reviews),
        "accuracy": float(predicted.correct.mean()),
        "confusion": predictions.confusion(predicted).tolist(),
        "calibration_error": predictions.calibration_error(bins),
        "reliability": figures.reliability_diagram(bins),
        "by_length": figures.accuracy_by_length(predictions.by_length(predicted)),
        "max_words": run.config.data.max_tokens,
        "mistakes": [
            _summary(reviews, predicted, index)
            for index in predictions.most_confident_errors(predicted, MISTAKES)
        ],
        "examples": _examples(classifier, reviews, predicted),
        "norms": norms,
        "reach": figures.reach(norms, in_legend=len(norms) > 1),
    }


def _examples(
    classifier: Classifier, reviews: Sequence[Review], predicted: predictions.Predictions
) -> list[dict[str, Any]]:
    """Explain the selected reviews word by word."""
    shown = []
    selected = predictions.examples(predicted).items()
    for index, reason in tqdm(selected, "explaining", disable=None, delay=1, leave=False):
        text = reviews[index].text
        explanation = classifier.explain(text)
        activity = inspection.gate_activity(classifier, explanation.words)
        shown.append(
            {
                **_summary(reviews, predicted, index),
                "reason": reason,
                "words": _words(explanation),
                "running": figures.running_probability(explanation),
                "gates": figures.gates(activity) if activity else None,
            }
        )
    return shown


def _summary(
    reviews: Sequence[Review], predicted: predictions.Predictions, index: int
) -> dict[str, Any]:
    text = re.sub(r"(<br\s*/?>\s*)+", "\n\n", reviews[index].text)
    return {
        "text": text,
        "preview": text[:PREVIEW].replace("\n", " ") + ("…" if len(text) > PREVIEW else ""),
        "label": NAMES[predicted.labels[index]],
        "probability": float(predicted.probabilities[index]),
    }


def _words(explanation: Explanation) -> list[tuple[str, float, float, float]]:
    """Return each word with its shade, its push and the running probability."""
    columns = (explanation.shades, explanation.pushes, explanation.probabilities)
    return list(zip(explanation.words, *(column.tolist() for column in columns)))
