"""Compare runs in a table: configurations with varied settings, over several seeds."""

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
    """One training run of a comparison: its row in the table, its folder and configuration."""

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
    """Print a table row for each run (a folder) and each variant of a configuration (a file).

    `varied` maps dotted keys to lists of values. Each combination is trained with each seed in a
    separate folder below `folder`. Finished runs in these folders are reused and interrupted runs
    are resumed.
    """
    if seeds < 1:
        raise ValueError(f"--seeds: expected a whole number of at least 1, got {seeds}")
    results: dict[str, list[dict[str, Any]]] = {}
    trials = []
    for item in items:
        if Path(item).is_dir():
            results[Path(item).name] = [Run.open(item).read_result()]
        else:
            planned = _trials(item, varied or {}, seeds, Path(folder), data_path)
            results |= {trial.name: [] for trial in planned}
            trials += planned
    for number, trial in enumerate(trials, 1):
        print(f"{number}/{len(trials)}: {trial.folder}", flush=True)
        try:
            results[trial.name].append(result_of(trial))
        except InterruptedRunError:
            raise InterruptedRunError(
                f"interrupted in {trial.folder}; run the same command again to resume"
            ) from None
    print(format_table([summarise(name, trained) for name, trained in results.items()]))


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
            run = folder / "-".join([*name.split(), f"seed{config.training.seed}"])
            trials.append(Trial(name, run, replace(config, run=str(run))))
    return trials


def result_of(trial: Trial) -> dict[str, Any]:
    """Return the result of a trial: read it, resume the run, or train."""
    if not (trial.folder / "config.yaml").exists():
        return train(Run.create(trial.config, trial.name))
    run = Run.open(trial.folder, trial.config)
    if run.result.exists():
        return run.read_result()
    return train(Run.resume(trial.folder, trial.config), resumed=True)


def summarise(name: str, results: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Return a table row with the means of the results over seeds."""
    validation, test = (
        format_scores([scores(result, split) for result in results])
        for split in ("validation", "test")
    )
    speed = statistics.fmean(result["tokens_per_second"] for result in results)
    seconds = statistics.fmean(result["train_seconds"] for result in results)
    parameters = results[0]["parameters"]
    return name, validation, test, f"{parameters:,}", f"{speed:,.0f}", f"{seconds:.0f} s"


def format_scores(runs: Sequence[dict[str, float]]) -> str:
    """Format mean scores, and the standard deviation of the first score over several runs."""
    text = describe({name: statistics.fmean(run[name] for run in runs) for name in runs[0]})
    if len(runs) == 1:
        return text
    first = next(iter(runs[0]))
    spread = describe({first: statistics.stdev(run[first] for run in runs)})
    return f"{text} (spread {spread.removeprefix(first).strip()}, {len(runs)} seeds)"


def format_table(rows: Sequence[tuple[str, ...]]) -> str:
    """Align columns: names to the left, numbers to the right."""
    lines = [COLUMNS, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths))
        )
        for line in lines
    )
