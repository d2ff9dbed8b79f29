"""Render the HTML report of one or several runs."""

import os
import platform
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

import seqcells
from seqcells.lab.files import write_atomically
from seqcells.lab.report import figures
from seqcells.lab.report.analysis import analyse
from seqcells.lab.report.svg import key
from seqcells.lab.text.reviews import Review
from seqcells.lab.training import DataConfig, Run
from seqcells.lab.training.parsing import PARTS
from seqcells.lab.training.tasks.reviews import read_reviews

COMPARED = ("parameters", "tokens_per_second", "train_seconds")


def write_report(runs: Sequence[Run], path: Path, split: str = "test") -> None:
    """Write a self-contained HTML report of the runs.

    Sentiment classifiers are evaluated on the reviews of `split` (`"test"` or `"validation"`).
    Reports of other tasks have learning curves, metrics and settings.

    Raises:
        ValueError: a run is unfinished, the runs are of several tasks, or the folder of `path`
            does not exist.
        OSError: the page cannot be written; an earlier page at `path` is unchanged.
    """
    if not path.absolute().parent.is_dir():
        raise ValueError(f"--output: expected a file in a folder that exists, got {path}")
    tasks = sorted({run.config.task for run in runs})
    if len(tasks) > 1:
        raise ValueError(
            f"expected runs of one task, got {', '.join(tasks)}; write one report per task"
        )
    results, histories = [run.read_result() for run in runs], [run.read_epochs() for run in runs]
    load = lru_cache(maxsize=1)(partial(_load_reviews, split))
    names = _names(runs)
    parts = [
        _part(number, *one, split, load)
        for number, one in enumerate(zip(runs, names, results, histories), 1)
    ]
    page = (
        _environment()
        .get_template("report.html")
        .render(
            title=names[0] if len(runs) == 1 else f"{len(runs)} runs",
            task=tasks[0],
            split=split,
            parts=parts,
            comparison=_comparison(parts) if len(parts) > 1 else None,
        )
    )
    write_atomically(path, lambda file: file.write(page.encode()))


def _names(runs: Sequence[Run]) -> list[str]:
    """Return the names of the folders, or their paths if the names are not unique."""
    names = [run.folder.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]


def _load_reviews(split: str, source: str, path: str | None, share: float, by: str) -> list[Review]:
    data = DataConfig(source=source, path=path, validation_share=share, validation_by=by)
    return read_reviews(data, (split,))[split]


def _part(
    number: int,
    run: Run,
    name: str,
    result: dict[str, Any],
    history: figures.History,
    split: str,
    load: Callable[..., list[Review]],
) -> dict[str, Any]:
    """Return the template's variables of one run."""
    analysis = None
    if run.config.task == "sentiment":
        data = run.config.data
        reviews = load(data.source, data.path, data.validation_share, data.validation_by)
        analysis = analyse(run, reviews)
    return {
        "anchor": f"run-{number}",
        "name": name,
        "result": result,
        "history": history,
        "curves": figures.learning_curves(history, result["best_epoch"]),
        "settings": {part: vars(getattr(run.config, part)) for part in PARTS},
        "environment": _environment_table(result),
        "analysis": analysis,
    }


def _environment_table(result: dict[str, Any]) -> dict[str, str]:
    """Return the recorded environment of the training and that of the report."""
    return {
        "trained with": f"torch {result['torch']}, threads: {result['threads']}, "
        f"processes: {result['processes']}",
        "report written with": f"seqcells {seqcells.__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}",
        "on": f"{platform.platform()}, {os.cpu_count()} CPUs",
        "kernels": seqcells.backends()["cpu"],
    }


def _comparison(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the template's variables of the comparison."""
    scores = [name for name in parts[0]["result"] if name.startswith(("test_", "validation_"))]
    reach = {}
    for part in parts:
        norms = part["analysis"]["norms"] if part["analysis"] else {}
        reach[part["name"]] = next(iter(norms.values()), [])
    return {
        "legend": [key(part["name"], number) for number, part in enumerate(parts)],
        "columns": [*scores, *COMPARED],
        "curves": figures.compared_curves({part["name"]: part["history"] for part in parts}),
        "reach": figures.reach(reach, in_legend=False),
    }


def format_metric(value: Any, name: str) -> str:
    """Format a value of `metrics.json`."""
    if name.endswith("accuracy"):
        return f"{value:.2%}"
    if name.endswith("seconds"):
        minutes, seconds = divmod(round(value), 60)
        return f"{minutes} min {seconds} s" if minutes else f"{value:.1f} s"
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def format_setting(value: Any) -> str:
    """Format a setting as on the command line, with a dash for null."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "–" if value in (None, {}) else str(value)


def format_probability(value: float) -> str:
    """Format a probability; values other than 0 and 1 do not round to 0% or 100%."""
    text = f"{value:.2%}"
    return {"0.00%": "< 0.01%", "100.00%": "> 99.99%"}.get(text, text) if 0 < value < 1 else text


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("seqcells.lab.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "metric": format_metric,
        "setting": format_setting,
        "probability": format_probability,
    }
    environment.filters["spaced"] = lambda name: name.replace("_", " ")
    return environment
