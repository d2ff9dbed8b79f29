"""Compare runs in a table: configurations with varied settings, over several seeds."""

import itertools
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from seqcells.lab.training.config import Config
from seqcells.lab.training.parsing import parse
from seqcells.lab.training.results import scores
from seqcells.lab.training.runs import Run
from seqcells.lab.training.session import train_in
from seqcells.lab.training.tasks.base import describe
from seqcells.lab.training.termination import InterruptedRunError

SPLITS = ("validation", "test")


@dataclass
class Trial:
    """One training run of a comparison: its folder and configuration."""

    folder: Path
    config: Config


@dataclass
class Row:
    """A row of the table: a run, or a variant of a configuration with a trial per seed."""

    name: str
    values: dict[str, str] = field(default_factory=dict)  # of the varied settings
    trials: list[Trial] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)


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
    are resumed. Standard output has the table only; progress goes to standard error.
    """
    varied = varied or {}
    _check_plan(varied, seeds)
    rows: list[Row] = []
    for item, name in zip(items, unique_names(items)):
        if Path(item).is_dir():
            rows.append(Row(name, results=[Run.open(item).read_result()]))
        else:
            rows += _variants(item, name, varied, seeds, Path(folder), data_path)
    planned = [(row, trial) for row in rows for trial in row.trials]
    _check_folders([trial.folder for _, trial in planned])
    for number, (row, trial) in enumerate(planned, 1):
        print(f"{number}/{len(planned)}: {trial.folder}", file=sys.stderr, flush=True)
        try:
            with redirect_stdout(sys.stderr):
                row.results.append(train_in(trial.folder, trial.config))
        except InterruptedRunError:
            raise InterruptedRunError(
                f"interrupted in {trial.folder}; run the same command again to resume"
            ) from None
    print(format_table(rows))


def unique_names(items: Sequence[str]) -> list[str]:
    """Return the names of runs and configurations: their paths where the short name is ambiguous.

    Raises:
        ValueError: an item is given twice, by any path.
    """
    for first, second in itertools.combinations(items, 2):
        if Path(first).resolve() == Path(second).resolve():
            raise ValueError(f"expected different runs and configurations, got {second} twice")
    paths = [Path(item) for item in items]
    names = [path.resolve().name if path.is_dir() else _stem(path) for path in paths]
    counts = Counter(names)
    return [name if counts[name] == 1 else item for name, item in zip(names, items)]


def _stem(path: Path) -> str:
    """Return the name of a configuration: of the run, if it is the configuration of one."""
    return path.resolve().parent.name if path.name == "config.yaml" else path.stem


def _check_plan(varied: dict[str, list[str]], seeds: int) -> None:
    if seeds < 1:
        raise ValueError(f"--seeds: expected a whole number of at least 1, got {seeds}")
    if seeds > 1 and "training.seed" in varied:
        raise ValueError(
            "--seeds: expected no --seeds together with --training.seed, which it replaces"
        )
    for key, values in varied.items():
        if len(set(values)) < len(values):
            raise ValueError(f"--{key}: expected different values, got {','.join(values)}")


def _check_folders(folders: Sequence[Path]) -> None:
    for folder, count in Counter(folders).items():
        if count > 1:
            raise ValueError(
                f"expected a different folder for each trial, got {folder} for {count}; "
                "compare them in two calls, with different values of --folder"
            )


def _variants(
    path: str,
    name: str,
    varied: dict[str, list[str]],
    seeds: int,
    folder: Path,
    data_path: str | None,
) -> list[Row]:
    """Return a row for each combination of the varied settings of a configuration."""
    stem = _stem(Path(path))
    if name != stem:  # of two files: the folder is named by the path
        stem = "-".join(part for part in Path(path).with_suffix("").parts if part.strip("/."))
    rows = []
    for values in itertools.product(*varied.values()):
        row = Row(name, dict(zip(varied, values)))
        for seed in range(seeds):
            settings = row.values | ({"training.seed": str(seed)} if seeds > 1 else {})
            config, _, _ = parse([path, *(f"--{key}={value}" for key, value in settings.items())])
            if data_path is not None and config.data.source == "imdb":
                config = replace(config, data=replace(config.data, path=data_path))
            words = " ".join([stem, *values]).split()
            run = folder / "-".join([*words, f"seed{config.training.seed}"])
            row.trials.append(Trial(run, replace(config, run=str(run))))
        rows.append(row)
    return rows


def format_table(rows: Sequence[Row]) -> str:
    """Align the columns of all rows under two heading lines: names to the left, numbers right."""
    keys = list(dict.fromkeys(key for row in rows for key in row.values))
    named = not keys or len({row.name for row in rows}) > 1
    columns = [["", "name", *(row.name for row in rows)]] if named else []
    short = [key.rpartition(".")[2] for key in keys]
    headings = short if len(set(short)) == len(keys) else keys
    columns += [
        ["", heading, *(row.values.get(key, "-") for row in rows)]
        for heading, key in zip(headings, keys)
    ]
    texts = len(columns)
    for split in SPLITS:
        found = [[scores(result, split) for result in row.results] for row in rows]
        names = dict.fromkeys(name for runs in found for run in runs for name in run)
        for number, name in enumerate(names):
            label = split if number == 0 else ""
            columns.append([label, name, *(_format_score(runs, name) for runs in found)])
    for name, key, form in (
        ("parameters", "parameters", "{:,.0f}"),
        ("tokens/s", "tokens_per_second", "{:,.0f}"),
        ("time", "train_seconds", "{:.0f} s"),
    ):
        means = [statistics.fmean(result[key] for result in row.results) for row in rows]
        columns.append(["", name, *map(form.format, means)])
    lines = _align(columns, texts)
    seeds = max(len(row.results) for row in rows)
    if seeds > 1:
        subject = "Means" if all(row.trials for row in rows) else "Rows with ±: means"
        lines.append(f"{subject} over {seeds} seeds; ± is the spread, their standard deviation.")
    return "\n".join(lines)


def _format_score(runs: Sequence[dict[str, float]], name: str) -> str:
    """Format the mean of a score, with the standard deviation if it is the first of several runs.

    Rows of other tasks have other scores, and an empty cell.
    """
    if name not in runs[0]:
        return ""
    values = [run[name] for run in runs]
    mean = _format(name, statistics.fmean(values))
    if len(runs) == 1 or name != next(iter(runs[0])):
        return mean
    return f"{mean.removesuffix('%')}±{_format(name, statistics.stdev(values))}"


def _format(name: str, value: float) -> str:
    return describe({name: value}).removeprefix(name).strip()


def _align(columns: Sequence[Sequence[str]], texts: int) -> list[str]:
    """Join the columns, the first `texts` aligned to the left. A first cell is a group's label."""
    lines = [""] * len(columns[0])
    for number, (label, *cells) in enumerate(columns):
        width = max(map(len, cells))
        gap = " " * (2 * (number > 0))
        if label:
            lines[0] = lines[0].ljust(len(lines[1]) + len(gap)) + label
        for row, cell in enumerate(cells, 1):
            lines[row] += gap + (cell.ljust(width) if number < texts else cell.rjust(width))
    return lines
