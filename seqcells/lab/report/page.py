"""Render the HTML report of one or several runs."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from seqcells.lab.files import write_atomically
from seqcells.lab.report import figures, formatting
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
        ValueError: a run is unfinished or its metrics are damaged, the runs are of several tasks,
            or `path` is a folder or in a folder that does not exist.
        OSError: the page cannot be written; an earlier page at `path` is unchanged.
    """
    if not path.absolute().parent.is_dir():
        raise ValueError(f"--output: expected a file in a folder that exists, got {path}")
    if path.is_dir():
        raise ValueError(f"--output: expected a file, got the folder {path}; add a file name")
    tasks = sorted({run.config.task for run in runs})
    if len(tasks) > 1:
        raise ValueError(
            f"expected runs of one task, got {', '.join(tasks)}; write one report per task"
        )
    results, histories = [run.read_result() for run in runs], [run.read_epochs() for run in runs]
    load = lru_cache(maxsize=1)(partial(_load_reviews, split))
    names = formatting.run_names(runs)
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
            written=formatting.report_environment(),
            comparison=_comparison(parts) if len(parts) > 1 else None,
        )
    )
    write_atomically(path, lambda file: file.write(page.encode()))


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
        "environment": formatting.training_environment(run, result),
        "analysis": analysis,
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


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("seqcells.lab.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "label": formatting.label,
        "metric": formatting.metric,
        "setting": formatting.setting,
        "probability": formatting.probability,
    }
    environment.globals["environment_metrics"] = formatting.ENVIRONMENT
    return environment
