"""What a report shows of one run that tells whether reviews are positive."""

import re
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from seqcells.lab.explanation import Explanation
from seqcells.lab.prediction import Classifier
from seqcells.lab.report import figures, outcome, reading
from seqcells.lab.text.reviews import Review
from seqcells.lab.training import Run
from seqcells.lab.training.tasks.sentiment import Sentiment

MISTAKES = 10
NAMES = ("negative", "positive")
PREVIEW = 140  # characters


def examine(run: Run, reviews: Sequence[Review]) -> dict[str, Any]:
    """Read all the reviews, some of them word by word; what the page's template shows of it."""
    task, classifier = Sentiment(run.config), Classifier(run)
    model, vocabulary = classifier.model, classifier.vocabulary
    found = outcome.predict(task, model, vocabulary, reviews)
    bins = outcome.reliability(found)
    norms = reading.gradient_reach(task, model, vocabulary, reviews, found)
    return {
        "count": len(reviews),
        "accuracy": float(found.right.mean()),
        "confusion": outcome.confusion(found).tolist(),
        "calibration_error": outcome.calibration_error(bins),
        "reliability": figures.reliability_diagram(bins),
        "by_length": figures.accuracy_by_length(outcome.by_length(found)),
        "most_words": run.config.data.max_tokens,
        "mistakes": [
            _described(reviews, found, place) for place in outcome.surest_mistakes(found, MISTAKES)
        ],
        "examples": _examples(classifier, reviews, found),
        "norms": norms,
        "reach": figures.reach(norms, keyed=len(norms) > 1),
    }


def _examples(
    classifier: Classifier, reviews: Sequence[Review], found: outcome.Outcome
) -> list[dict[str, Any]]:
    """The chosen reviews, read word by word."""
    shown = []
    chosen = outcome.examples(found).items()
    for place, reason in tqdm(chosen, "explaining", disable=None, delay=1, leave=False):
        text = reviews[place].text
        explanation = classifier.explain(text)
        activity = reading.gate_activity(classifier, explanation.words)
        shown.append(
            {
                **_described(reviews, found, place),
                "reason": reason,
                "words": _words(explanation),
                "running": figures.running_probability(explanation),
                "gates": figures.gates(activity) if activity else None,
            }
        )
    return shown


def _described(reviews: Sequence[Review], found: outcome.Outcome, place: int) -> dict[str, Any]:
    text = re.sub(r"(<br\s*/?>\s*)+", "\n\n", reviews[place].text)
    return {
        "text": text,
        "preview": text[:PREVIEW].replace("\n", " ") + ("…" if len(text) > PREVIEW else ""),
        "label": NAMES[found.labels[place]],
        "probability": float(found.probabilities[place]),
    }


def _words(explanation: Explanation) -> list[tuple[str, float, float, float]]:
    """Each word with its shade, its push and the probability after it."""
    columns = (explanation.shades, explanation.pushes, explanation.probabilities)
    return list(zip(explanation.words, *(column.tolist() for column in columns)))
