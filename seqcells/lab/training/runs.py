"""The folder of a training run: configuration, vocabulary, metrics, checkpoints."""

import json
import math
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from seqcells.lab.files import write_atomically
from seqcells.lab.text.vocabulary import Vocabulary
from seqcells.lab.training import processes
from seqcells.lab.training.config import Config, check_same, flatten
from seqcells.lab.training.devices import device_of
from seqcells.lab.training.parsing import load_config, save_config

# Metrics that every version and task writes; `TEXTS` are strings, the others numbers.
EPOCH = ("epoch", "gradient_norm", "learning_rate", "tokens_per_second", "seconds")
RESULT = (
    *("test_loss", "best_epoch", "epochs", "validation_loss", "parameters", "tokens_per_second"),
    *("train_seconds", "total_seconds", "device", "threads", "processes", "torch"),
)
TEXTS = ("device", "torch")
SCORES = ("test_", "train_", "validation_")
REPAIR = "restore the file, or train a new run"


@dataclass
class Run:
    """The files of one training run."""

    folder: Path
    config: Config

    def __post_init__(self):
        self.settings = self.folder / "config.yaml"
        self.words = self.folder / "vocabulary.json"
        self.best = self.folder / "best.pt"
        self.last = self.folder / "last.pt"
        self.epochs = self.folder / "metrics.jsonl"
        self.result = self.folder / "metrics.json"
        self.started, self.earlier_seconds = time.monotonic(), 0.0

    @property
    def seconds(self) -> float:
        """Time spent on the run so far, across interruptions."""
        return self.earlier_seconds + time.monotonic() - self.started

    def resume_command(self) -> str:
        """Return the shell command that resumes the run."""
        launcher = program("python")
        if processes.is_distributed():
            launcher = f"{program('torchrun')} --nproc-per-node {processes.world_size()}"
        return f"{launcher} train.py --resume {self.folder}"

    @classmethod
    def create(cls, config: Config, name: str) -> "Run":
        """Create the folder `config.run`, or a new one below runs/ named by `name` and time.

        The folder stays empty until `begin`, so that a run that fails before can be started again.
        Threads and device are set to this machine's defaults unless they are configured.
        """
        device = device_of(config.training)
        folder = config.run or f"runs/{name}-{datetime.now():%Y%m%d-%H%M%S}"
        folder = Path(processes.broadcast(folder))
        if processes.is_main():
            _create_folder(folder)
        training = config.training
        if training.threads is None:
            training = replace(training, threads=torch.get_num_threads())
        if training.device == "auto":
            training = replace(training, device=device.type)
        return cls(folder, replace(config, training=training))

    @classmethod
    def open(cls, folder: str | Path, expected: Config | None = None) -> "Run":
        """Open an existing run.

        Raises:
            ValueError: `folder` is not a run, or its configuration differs from `expected`.
        """
        run = cls(Path(folder), Config())
        if not run.settings.is_file():
            raise ValueError(
                f"expected the folder of a run, got {folder}, which has no config.yaml"
            )
        run.config = load_config(run.settings)
        if expected is not None:
            unset = {"threads": None, "device": "auto"}
            resolved = {
                name: getattr(run.config.training, name)
                for name, value in unset.items()
                if getattr(expected.training, name) == value
            }
            expected = replace(expected, training=replace(expected.training, **resolved))
            check_same(expected, flatten(run.config), folder)
            run.config = expected
        return run

    @classmethod
    def resume(cls, folder: str | Path, expected: Config) -> "Run":
        """Open an unfinished run."""
        run = cls.open(folder, expected)
        if run.result.exists():
            raise ValueError(f"expected an unfinished run, got {folder}, which has metrics.json")
        if not run.last.exists():
            raise ValueError(f"expected {run.last}, which does not exist; train a new run")
        for part in run.folder.glob("*.part"):  # left by an interrupted write
            part.unlink(missing_ok=True)
        return run

    def begin(self, vocabulary: Vocabulary | None) -> None:
        """Write the configuration and the vocabulary."""
        save_config(self.config, self.settings)
        if vocabulary is not None:
            vocabulary.save(self.words)

    def load_vocabulary(self) -> Vocabulary:
        if not self.words.is_file():
            raise ValueError(f"expected {self.words}, which does not exist; train a new run")
        return Vocabulary.load(self.words)

    def write_epochs(self, history: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(epoch) + "\n" for epoch in history)
        write_atomically(self.epochs, lambda file: file.write(lines.encode()))

    def read_epochs(self) -> list[dict[str, Any]]:
        if not self.epochs.is_file():
            raise ValueError(f"expected {self.epochs}, which does not exist; train a new run")
        lines = enumerate(_read_text(self.epochs).splitlines(), 1)
        history = [_parse_metrics(f"{self.epochs}, line {n}", line, EPOCH) for n, line in lines]
        if not history:
            raise ValueError(f"expected metrics of epochs in {self.epochs}, got none; {REPAIR}")
        for number, epoch in enumerate(history, 1):
            if differing := epoch.keys() ^ history[0].keys():
                raise ValueError(
                    f"expected the metrics of line 1 in {self.epochs}, line {number}, got a "
                    f"difference in {', '.join(sorted(differing))}; {REPAIR}"
                )
        return history

    def write_result(self, result: dict[str, Any]) -> None:
        content = json.dumps(result, indent=2) + "\n"
        write_atomically(self.result, lambda file: file.write(content.encode()))

    def read_result(self) -> dict[str, Any]:
        if not self.result.is_file():
            raise ValueError(
                f"expected a finished run, got {self.folder}, which has no metrics.json; "
                f"finish it with: {self.resume_command()}"
            )
        return _parse_metrics(str(self.result), _read_text(self.result), RESULT)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"expected JSON in UTF-8 in {path}, got {error}; {REPAIR}") from None


def _parse_metrics(place: str, text: str, required: Sequence[str]) -> dict[str, Any]:
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


def _create_folder(folder: Path) -> None:
    """Create a folder, or check that it is empty, and that it is writable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ValueError(
                f"run: expected a new or empty folder, got {folder}, which holds files; "
                f"choose another folder, or continue that run with --resume {folder}"
            )
        write_atomically(folder / "config.yaml", lambda _: None)
        (folder / "config.yaml").unlink()
    except OSError as error:
        raise ValueError(f"run: expected a writable folder, got {folder} ({error})") from None


def program(name: str) -> str:
    """Return the shortest command that runs a program of this Python environment."""
    path = Path(sys.executable).with_name(name)
    if not path.exists() or shutil.which(name) == str(path):
        return name
    return os.path.relpath(path)
