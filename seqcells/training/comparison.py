"""Several runs in one table: those that are finished, and those that are trained for it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from seqcells.training.config import Config
from seqcells.training.parsing import load_config
from seqcells.training.results import test_scores
from seqcells.training.runs import Run
from seqcells.training.session import train
from seqcells.training.tasks.base import describe

COLUMNS = ("name", "test", "parameters", "tokens/s", "time")


def compare(items: Sequence[str], data_path: str | None = None) -> None:
    """Print one row for each run (a folder) and each configuration (a file, trained here)."""
    finished = {item: Run.open(item).read_result() for item in items if Path(item).is_dir()}
    configs = {item: _load(item, data_path) for item in items if item not in finished}
    rows = []
    for item in items:
        if item in configs:
            run = Run.create(configs[item], Path(item).stem)
            print(f"{item}: training in {run.folder}")
            finished[item] = train(run)
        name = Path(item).stem if item in configs else Path(item).name
        rows.append(row(name, finished[item]))
    print(table(rows))


def _load(path: str, data_path: str | None) -> Config:
    config = load_config(path)
    if data_path is not None and config.data.source == "imdb":
        config = replace(config, data=replace(config.data, path=data_path))
    return config


def row(name: str, result: dict[str, Any]) -> tuple[str, ...]:
    return (
        name,
        describe(test_scores(result)),
        f"{result['parameters']:,}",
        f"{result['tokens_per_second']:,.0f}",
        f"{result['train_seconds']:.0f} s",
    )


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
