"""The charts of a report."""

from collections.abc import Sequence
from typing import Any

from seqcells.lab.explanation import Explanation
from seqcells.lab.report.predictions import Bin, confidence_interval
from seqcells.lab.report.svg import LOW_HEIGHT, Axis, Chart

History = Sequence[dict[str, Any]]
PERCENTAGES = ("accuracy",)


def score_names(history: History) -> list[str]:
    """Return the scores that training and validation have in common: loss, accuracy, ..."""
    names = (key.removeprefix("train_") for key in history[0] if key.startswith("train_"))
    return [name for name in names if f"validation_{name}" in history[0]]


def learning_curves(history: History, best_epoch: int) -> list[Chart]:
    """Plot each score and the gradient norm by epoch."""
    charts = []
    for name in score_names(history):
        splits = {split: column(history, f"{split}_{name}") for split in ("train", "validation")}
        chart = _by_epoch(name, splits.values())
        chart.vertical(best_epoch, f"selected model: epoch {best_epoch}")
        for number, (split, values) in enumerate(splits.items()):
            _add_epochs(chart, split, values, colour=number)
        charts.append(chart)
    norms = column(history, "gradient_norm")
    charts.append(_add_epochs(_by_epoch("gradient norm", [norms]), "", norms))
    return charts


def compared_curves(histories: dict[str, History]) -> list[Chart]:
    """Plot the validation scores and the gradient norm of several runs by epoch."""
    names = score_names(next(iter(histories.values())))
    titles = {f"validation {name}": f"validation_{name}" for name in names}
    charts = []
    for title, key in (titles | {"gradient norm": "gradient_norm"}).items():
        columns = {run: column(history, key) for run, history in histories.items()}
        chart = _by_epoch(title, columns.values())
        for number, (run, values) in enumerate(columns.items()):
            _add_epochs(chart, run, values, colour=number, in_legend=False)
        charts.append(chart)
    return charts


def column(history: History, key: str) -> list[float]:
    return [epoch[key] for epoch in history]


def _by_epoch(name: str, columns: Sequence[Sequence[float]]) -> Chart:
    values = [value for column in columns for value in column]
    percent = any(name.endswith(one) for one in PERCENTAGES)
    longest = max(map(len, columns))
    x = Axis.around("epoch", [1, longest], whole=True)
    low = [] if percent else [0.0]
    return Chart(name.capitalize(), x, Axis.around(name, values + low, percent=percent))


def _add_epochs(
    chart: Chart, name: str, values: Sequence[float], *, colour: int = 0, in_legend: bool = True
) -> Chart:
    epochs = range(1, len(values) + 1)
    titles = [f"{name} epoch {n}: {value:.4g}".strip() for n, value in zip(epochs, values)]
    return chart.line(epochs, values, name if in_legend else "", colour=colour, titles=titles)


def reliability_diagram(bins: Sequence[Bin]) -> Chart:
    """Plot the fraction of positive reviews by predicted probability, with bars for counts."""
    x = Axis("predicted probability of positive", 0.0, 1.0, 0.25, percent=True)
    chart = Chart("Reliability", x, Axis("fraction positive", 0.0, 1.0, 0.25, percent=True))
    largest = max(one.count for one in bins)
    edges = [(one.low, one.high) for one in bins]
    counts = [f"{one.count:,} reviews" for one in bins]
    chart.bars(edges, [0.3 * one.count / largest for one in bins], counts).diagonal()
    titles = [
        f"{one.low:.0%} to {one.high:.0%}: predicted {one.mean:.1%}, true {one.share:.1%}"
        for one in bins
    ]
    means, shares = [one.mean for one in bins], [one.share for one in bins]
    return chart.line(means, shares, titles=titles)


def accuracy_by_length(bins: Sequence[Bin]) -> Chart:
    """Plot the accuracy on reviews of similar length, with 95% confidence intervals."""
    ends = [confidence_interval(one) for one in bins]
    x = Axis.around("words read", [0.0, *(one.mean for one in bins)])
    y = Axis.around("accuracy", [end for both in ends for end in both], percent=True)
    titles = [
        f"{one.low:.0f} to {one.high:.0f} words: {one.share:.1%} of {one.count:,}" for one in bins
    ]
    chart = Chart("Accuracy by length", x, y).whiskers([one.mean for one in bins], ends)
    return chart.line([one.mean for one in bins], [one.share for one in bins], titles=titles)


def running_probability(explanation: Explanation) -> Chart:
    """Plot the probability of "positive" after each word."""
    values = explanation.probabilities.tolist()
    y = Axis("positive", 0.0, 1.0, 0.5, percent=True)
    chart = Chart("Running probability", _words(len(values)), y, LOW_HEIGHT).horizontal(0.5)
    return chart.line(range(1, len(values) + 1), values)


def gates(activity: dict[str, list[float]]) -> Chart:
    """Plot the mean activation of each gate at each word."""
    steps = len(next(iter(activity.values())))
    values = [value for one in activity.values() for value in one]
    chart = Chart("Gates", _words(steps), Axis.around("open", values, percent=True), LOW_HEIGHT)
    for number, (name, values) in enumerate(activity.items()):
        chart.line(range(1, steps + 1), values, name, colour=number)
    return chart


def _words(count: int) -> Axis:
    return Axis.around("word", [1, count], whole=True)


def reach(norms_by_run: dict[str, Sequence[float]], *, in_legend: bool) -> Chart | None:
    """Plot the gradient norm by distance from the last word, without norms of zero.

    Returns None if there is no norm above zero.
    """
    lines = {
        name: [(-back, norm) for back, norm in enumerate(norms) if norm > 0]
        for name, norms in norms_by_run.items()
    }
    points = [point for line in lines.values() for point in line]
    if not points:
        return None
    x = Axis.around("words before the last", [back for back, _ in points], whole=True)
    y = Axis.logarithmic("gradient norm", [norm for _, norm in points])
    chart = Chart("Gradient norm by time step", x, y)
    for number, (name, line) in enumerate(lines.items()):
        if line:
            chart.line(*zip(*line), name if in_legend else "", colour=number)
    return chart
