"""Reading `metrics.json` and `metrics.jsonl`; errors name the file, the line and the metric."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Metrics that every version and task writes; `TEXTS` are strings, the others numbers.
EPOCH = ("epoch", "gradient_norm", "learning_rate", "tokens_per_second", "seconds")
RESULT = (
    *("test_loss", "best_epoch", "epochs", "validation_loss", "parameters", "tokens_per_second"),
    *("train_seconds", "total_seconds", "device", "threads", "processes", "torch"),
)
TEXTS = ("device", "torch")
SCORES = ("test_", "train_", "validation_")
REPAIR = "restore the file, or train a new run"


def read_result(path: Path) -> dict[str, Any]:
    """Read the result of a run.

    Raises:
        ValueError: the file is not JSON, or a metric is missing or of another type.
    """
    return _parse(str(path), _read_text(path), RESULT)


def read_epochs(path: Path) -> list[dict[str, Any]]:
    """Read the metrics of each epoch.

    Raises:
        ValueError: as in `read_result`, or the epochs have different metrics.
    """
    lines = enumerate(_read_text(path).splitlines(), 1)
    history = [_parse(f"{path}, line {n}", line, EPOCH) for n, line in lines]
    if not history:
        raise ValueError(f"expected metrics of epochs in {path}, got none; {REPAIR}")
    for number, epoch in enumerate(history, 1):
        if differing := epoch.keys() ^ history[0].keys():
            raise ValueError(
                f"expected the metrics of line 1 in {path}, line {number}, got a "
                f"difference in {', '.join(sorted(differing))}; {REPAIR}"
            )
    return history


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"expected JSON in UTF-8 in {path}, got {error}; {REPAIR}") from None


def _parse(place: str, text: str, required: Sequence[str]) -> dict[str, Any]:
    """Parse a JSON object of metrics and validate their types; errors name the place."""
    try:
        metrics = json.loads(text)
    except ValueError as error:
        raise ValueError(f"expected metrics in JSON in {place}, got {error}; {REPAIR}") from None
    if not isinstance(metrics, dict):
        kind = type(metrics).__name__
        raise ValueError(f"expected a JSON object in {place}, got {kind}; {REPAIR}")
    for name in [*required, *(name for name in metrics if name.startswith(SCORES))]:
        value = metrics.get(name)
        if name in TEXTS:
            valid = isinstance(value, str)
        else:
            valid = type(value) in (int, float) and math.isfinite(value)
        if not valid:
            kind = "a string" if name in TEXTS else "a finite number"
            given = repr(value) if name in metrics else "no such metric"
            raise ValueError(f"expected {kind} for {name} in {place}, got {given}; {REPAIR}")
    return metrics
