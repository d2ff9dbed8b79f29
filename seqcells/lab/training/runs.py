"""A run is a folder: configuration, vocabulary, metrics, checkpoints."""

import json
import os
import shutil
import sys
import time
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
        """How long the run has taken so far, what came before a break included."""
        return self.earlier_seconds + time.monotonic() - self.started

    def how_to_resume(self) -> str:
        starter = program("python")
        if processes.several():
            starter = f"{program('torchrun')} --nproc-per-node {processes.count()}"
        return f"{starter} train.py --resume {self.folder}"

    @classmethod
    def create(cls, config: Config, name: str) -> "Run":
        """Claim the folder `config.run`, or a new one under runs/ that tells `name` and time.

        Nothing is written yet, so that a run which never begins leaves its folder free. What the
        configuration leaves to the machine, threads and device, is settled here.
        """
        device = device_of(config.training)
        folder = config.run or f"runs/{name}-{datetime.now():%Y%m%d-%H%M%S}"
        folder = Path(processes.from_writer(folder))
        if processes.writes():
            _claim(folder)
        training = config.training
        if training.threads is None:
            training = replace(training, threads=torch.get_num_threads())
        if training.device == "auto":
            training = replace(training, device=device.type)
        return cls(folder, replace(config, training=training))

    @classmethod
    def open(cls, folder: str | Path, given: Config | None = None) -> "Run":
        """An existing run; a `given` configuration must be the run's own."""
        run = cls(Path(folder), Config())
        if not run.settings.is_file():
            raise ValueError(f"expected the folder of a run, got {folder}, without config.yaml")
        run.config = load_config(run.settings)
        if given is not None:
            left = {"threads": None, "device": "auto"}
            settled = {
                name: getattr(run.config.training, name)
                for name, value in left.items()
                if getattr(given.training, name) == value
            }
            given = replace(given, training=replace(given.training, **settled))
            check_same(given, flatten(run.config), folder)
            run.config = given
        return run

    @classmethod
    def resume(cls, folder: str | Path, given: Config) -> "Run":
        """A run that has begun and not finished."""
        run = cls.open(folder, given)
        if run.result.exists():
            raise ValueError(f"expected an unfinished run, got {folder}, which has metrics.json")
        if not run.last.exists():
            raise ValueError(f"expected {run.last} to go on from, which does not exist; train anew")
        for part in run.folder.glob("*.part"):  # of a file that was being written when it died
            part.unlink(missing_ok=True)
        return run

    def begin(self, vocabulary: Vocabulary | None) -> None:
        """Write what never changes in the run."""
        save_config(self.config, self.settings)
        if vocabulary is not None:
            vocabulary.save(self.words)

    def load_vocabulary(self) -> Vocabulary:
        if not self.words.is_file():
            raise ValueError(f"expected {self.words}, which does not exist; train again")
        return Vocabulary.load(self.words)

    def write_epochs(self, history: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(epoch) + "\n" for epoch in history)
        write_atomically(self.epochs, lambda file: file.write(lines.encode()))

    def read_epochs(self) -> list[dict[str, Any]]:
        if not self.epochs.is_file():
            raise ValueError(f"expected {self.epochs}, which does not exist; train again")
        return [json.loads(line) for line in self.epochs.read_text(encoding="utf-8").splitlines()]

    def write_result(self, result: dict[str, Any]) -> None:
        content = json.dumps(result, indent=2) + "\n"
        write_atomically(self.result, lambda file: file.write(content.encode()))

    def read_result(self) -> dict[str, Any]:
        if not self.result.is_file():
            raise ValueError(
                f"expected a finished run, got {self.folder}, without metrics.json; "
                f"finish it: {self.how_to_resume()}"
            )
        return json.loads(self.result.read_text(encoding="utf-8"))


def _claim(folder: Path) -> None:
    """See to it that a folder is there, empty, and can be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ValueError(
                f"run: expected a new or empty folder, got {folder}, which holds files; "
                f"name another one, or go on with that run: --resume {folder}"
            )
        write_atomically(folder / "config.yaml", lambda _: None)
        (folder / "config.yaml").unlink()
    except OSError as error:
        raise ValueError(f"run: expected a folder to write to, got {folder} ({error})") from None


def program(name: str) -> str:
    """How the user can call a program of this environment from here."""
    beside = Path(sys.executable).with_name(name)
    if not beside.exists() or shutil.which(name) == str(beside):
        return name
    return os.path.relpath(beside)
