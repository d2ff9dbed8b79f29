"""Analysis of a sentiment classifier for the report."""

from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from seqcells.lab.explanation import Explanation
from seqcells.lab.prediction import Classifier
from seqcells.lab.report import figures, inspection, predictions, texts
from seqcells.lab.text.reviews import Review
from seqcells.lab.training import Run
from seqcells.lab.training.tasks.sentiment import Sentiment

MISTAKES = 10
NAMES = ("negative", "positive")


def analyse(run: Run, reviews: Sequence[Review]) -> dict[str, Any]:
    """Predict all reviews, explain some word by word, and return the template's variables."""
    task, classifier = Sentiment(run.config), Classifier(run)
    model, vocabulary = classifier.model, classifier.vocabulary
    predicted = predictions.predict(task, model, vocabulary, reviews)
    bins = predictions.reliability(predicted)
    identities = [texts.identity(review.text) for review in reviews]
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
            _summary(classifier, reviews, predicted, index)
            for index in predictions.most_confident_errors(predicted, identities, MISTAKES)
        ],
        "examples": _examples(classifier, reviews, predicted, identities),
        "norms": norms,
        "reach": figures.reach(norms, in_legend=len(norms) > 1),
    }


def _examples(
    classifier: Classifier,
    reviews: Sequence[Review],
    predicted: predictions.Predictions,
    identities: Sequence[str],
) -> list[dict[str, Any]]:
    """Explain the selected reviews word by word."""
    shown = []
    selected = predictions.examples(predicted, identities).items()
    for index, reason in tqdm(selected, "explaining", disable=None, delay=1, leave=False):
        text = reviews[index].text
        explanation = classifier.explain(text)
        activity = inspection.gate_activity(classifier, explanation.words)
        segments = texts.segments(text, classifier.vocabulary, classifier.config.data)
        shown.append(
            {
                **_summary(classifier, reviews, predicted, index),
                "reason": reason,
                "segments": [_colour(segment, explanation) for segment in segments],
                "running": figures.running_probability(explanation),
                "gates": figures.gates(activity) if activity else None,
            }
        )
    return shown


def _summary(
    classifier: Classifier,
    reviews: Sequence[Review],
    predicted: predictions.Predictions,
    index: int,
) -> dict[str, Any]:
    segments = texts.segments(reviews[index].text, classifier.vocabulary, classifier.config.data)
    text = texts.join(segments)
    return {
        "text": text,
        "preview": texts.preview(text),
        "label": NAMES[predicted.labels[index]],
        "probability": float(predicted.probabilities[index]),
    }


def _colour(segment: texts.Segment, explanation: Explanation) -> dict[str, Any]:
    """Return the text of a segment; if it has tokens also push, shade and running probability."""
    text, first, last = segment
    if first == last:
        return {"text": text, "push": None}
    push = explanation.pushes[first:last].sum()
    return {
        "text": text,
        "push": float(push),
        "shade": float(push.tanh()),
        "probability": float(explanation.probabilities[last - 1]),
    }
