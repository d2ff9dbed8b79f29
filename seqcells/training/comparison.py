"""Several runs in one table: those that are finished, and those that are trained for it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from seqcells.training.config import Config
from seqcells.training.interruption import deferred_signals
from seqcells.training.loop import Trainer
from seqcells.training.parsing import load_config
from seqcells.training.results import finish, test_scores
from seqcells.training.runs import Run
from seqcells.training.tasks import task_of
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


def train(run: Run) -> dict[str, Any]:
    """A whole training, as `train.py` tells it, without resuming."""
    config, task = run.config, task_of(run.config)
    data = task.load()
    torch.manual_seed(config.training.seed)
    torch.set_num_threads(config.training.threads)
    model = task.build(data.vocabulary)
    task.begin(model, data.vocabulary)
    run.begin(data.vocabulary)
    with deferred_signals() as interrupted:
        progress = Trainer(run, task, model, data).fit(interrupted)
        return finish(run, data.vocabulary, progress, interrupted)


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
