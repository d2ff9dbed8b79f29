"""Several trainings in one table: configurations, each with some settings varied, over seeds."""

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seqcells.lab.training.config import Config
from seqcells.lab.training.parsing import parse
from seqcells.lab.training.results import scores
from seqcells.lab.training.runs import Run
from seqcells.lab.training.session import train
from seqcells.lab.training.tasks.base import describe
from seqcells.lab.training.termination import InterruptedRunError

COLUMNS = ("name", "validation", "test", "parameters", "tokens/s", "time")


@dataclass
class Trial:
    """One training: its place in the table, its folder, and what to train there."""

    name: str
    folder: Path
    config: Config


def compare(
    items: Sequence[str],
    *,
    varied: dict[str, list[str]] | None = None,
    seeds: int = 1,
    folder: str = "runs/compare",
    data_path: str | None = None,
) -> None:
    """Print a row for each run (a folder) and each configuration (a file) with each setting.

    `varied` holds lists of values by dotted key. Every combination is trained with each seed, in a
    folder of its own under `folder`; a training that is finished there is taken from it, one that
    was interrupted goes on.
    """
    if seeds < 1:
        raise ValueError(f"--seeds: expected a whole number of at least 1, got {seeds}")
    results: dict[str, list[dict[str, Any]]] = {}
    trials = []
    for item in items:
        if Path(item).is_dir():
            results[Path(item).name] = [Run.open(item).read_result()]
        else:
            new = _trials(item, varied or {}, seeds, Path(folder), data_path)
            results |= {trial.name: [] for trial in new}
            trials += new
    for number, trial in enumerate(trials, 1):
        print(f"{number}/{len(trials)}: {trial.folder}", flush=True)
        try:
            results[trial.name].append(result_of(trial))
        except InterruptedRunError:
            raise InterruptedRunError(
                f"interrupted in {trial.folder}; the same command goes on from there"
            ) from None
    print(table([row(name, found) for name, found in results.items()]))


def _trials(
    path: str, varied: dict[str, list[str]], seeds: int, folder: Path, data_path: str | None
) -> list[Trial]:
    trials = []
    for values in itertools.product(*varied.values()):
        name = " ".join([Path(path).stem, *values])
        for seed in range(seeds):
            settings = dict(zip(varied, values))
            if seeds > 1:
                settings["training.seed"] = str(seed)
            config, _, _ = parse([path, *(f"--{key}={value}" for key, value in settings.items())])
            if data_path is not None and config.data.source == "imdb":
                config = replace(config, data=replace(config.data, path=data_path))
            place = folder / "-".join([*name.split(), f"seed{config.training.seed}"])
            trials.append(Trial(name, place, replace(config, run=str(place))))
    return trials


def result_of(trial: Trial) -> dict[str, Any]:
    """What a trial came to: taken, finished or trained."""
    if not (trial.folder / "config.yaml").exists():
        return train(Run.create(trial.config, trial.name))
    run = Run.open(trial.folder, trial.config)
    if run.result.exists():
        return run.read_result()
    return train(Run.resume(trial.folder, trial.config), resumed=True)


def row(name: str, results: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """The means of a trial's results over its seeds."""
    validation, test = (
        figures([scores(result, split) for result in results]) for split in ("validation", "test")
    )
    speed = statistics.fmean(result["tokens_per_second"] for result in results)
    seconds = statistics.fmean(result["train_seconds"] for result in results)
    parameters = results[0]["parameters"]
    return name, validation, test, f"{parameters:,}", f"{speed:,.0f}", f"{seconds:.0f} s"


def figures(found: Sequence[dict[str, float]]) -> str:
    """Mean scores, and by how much the first one scatters (its standard deviation)."""
    text = describe({name: statistics.fmean(one[name] for one in found) for name in found[0]})
    if len(found) == 1:
        return text
    first = next(iter(found[0]))
    spread = describe({first: statistics.stdev(one[first] for one in found)})
    return f"{text} (spread {spread.removeprefix(first).strip()}, {len(found)} seeds)"


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Aligned columns: names to the left, figures to the right."""
    lines = [COLUMNS, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths))
        )
        for line in lines
    )
