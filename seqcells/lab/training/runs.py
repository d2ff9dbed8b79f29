"""The folder of a training run: configuration, vocabulary, metrics, checkpoints."""

import itertools
import json
import os
import re
import shlex
import shutil
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import torch

from seqcells.lab.files import write_atomically
from seqcells.lab.text.vocabulary import Vocabulary
from seqcells.lab.training import folder_lock, metrics_files, processes
from seqcells.lab.training.config import Config, check_same, flatten
from seqcells.lab.training.devices import check_threads, device_of
from seqcells.lab.training.folder_lock import FolderLock
from seqcells.lab.training.parsing import load_config, save_config


@dataclass
class Run:
    """The files of one training run.

    `create` and `resume` lock the folder for this process. Leaving the run's `with` block releases
    it, and removes a folder that `create` made if nothing has been written to it.
    """

    folder: Path
    config: Config
    lock: FolderLock = field(default_factory=FolderLock, compare=False, repr=False)

    def __post_init__(self):
        self.settings = self.folder / "config.yaml"
        self.words = self.folder / "vocabulary.json"
        self.best = self.folder / "best.pt"
        self.last = self.folder / "last.pt"
        self.epochs = self.folder / "metrics.jsonl"
        self.result = self.folder / "metrics.json"
        self.started, self.earlier_seconds = time.monotonic(), 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    @property
    def seconds(self) -> float:
        """Time spent on the run so far, across interruptions."""
        return self.earlier_seconds + time.monotonic() - self.started

    def resume_command(self) -> str:
        """Return the shell command that resumes the run."""
        return f"{_train_command()} --resume {shlex.quote(str(self.folder))}"

    def repeat_command(self, **training: Any) -> str:
        """Return the shell command of a new run with other settings of `training`."""
        options = "".join(f" --training.{name} {value}" for name, value in training.items())
        return f"{_train_command()} {shlex.quote(str(self.settings))}{options}"

    @classmethod
    def create(cls, config: Config, name: str) -> "Run":
        """Create the folder `config.run`, or a new one below runs/ named by `name` and time.

        Nothing but the lock is in the folder until `begin`. Threads and device are set to this
        machine's defaults unless they are configured.

        Raises:
            ValueError: the folder has files, is in use by another process or is not writable, or
                this machine does not have the device or as many threads.
        """
        device = device_of(config.training)
        check_threads(config.training)
        lock = FolderLock()
        folder = processes.on_main(lambda: _create_folder(lock, config.run, name))
        training = config.training
        if training.threads is None:
            training = replace(training, threads=torch.get_num_threads())
        if training.device == "auto":
            training = replace(training, device=device.type)
        return cls(folder, replace(config, training=training), lock)

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
        """Open an unfinished run.

        Raises:
            ValueError: `folder` is not an unfinished run, another process is training it, its
                configuration differs from `expected`, or this machine cannot run it.
        """
        run = cls.open(folder, expected)
        check_threads(run.config.training)
        processes.on_main(run._prepare_resumption)
        return run

    def _prepare_resumption(self) -> None:
        """Lock the folder, and remove what an interrupted write left."""
        try:
            owner = self.lock.acquire(self.folder)
        except OSError as error:
            raise ValueError(
                f"expected a writable folder, got {self.folder} ({error.strerror})"
            ) from None
        if owner is not None:
            raise ValueError(
                f"expected a run that no process is training, got {self.folder}, "
                f"which {owner} is training"
            )
        # Checked under the lock, as the process that held it may have finished the run.
        problem = None
        if self.result.exists():
            problem = f"expected an unfinished run, got {self.folder}, which has metrics.json"
        elif not self.last.exists():
            problem = f"expected {self.last}, which does not exist; train a new run"
        if problem is not None:
            self.lock.release()
            raise ValueError(problem)
        written = (self.settings, self.words, self.best, self.last, self.epochs, self.result)
        for file in written:
            for part in self.folder.glob(f"{file.name}.*.part"):
                part.unlink(missing_ok=True)

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
        return metrics_files.read_epochs(self.epochs)

    def write_result(self, result: dict[str, Any]) -> None:
        content = json.dumps(result, indent=2) + "\n"
        write_atomically(self.result, lambda file: file.write(content.encode()))

    def read_result(self) -> dict[str, Any]:
        if not self.result.is_file():
            raise ValueError(
                f"expected a finished run, got {self.folder}, which has no metrics.json; "
                f"finish it with: {self.resume_command()}"
            )
        return metrics_files.read_result(self.result)


def _create_folder(lock: FolderLock, configured: str | None, name: str) -> Path:
    """Create and lock the configured folder, which must be new or empty, or a new one."""
    folder = Path(configured or f"runs/{name}-{datetime.now():%Y%m%d-%H%M%S}")
    try:
        return _lock_empty(lock, folder) if configured else _lock_new(lock, folder)
    except OSError as error:
        reason = error.strerror
        raise ValueError(f"run: expected a writable folder, got {folder} ({reason})") from None


def _lock_empty(lock: FolderLock, folder: Path) -> Path:
    owner = lock.create(folder, exist_ok=True)
    if owner is not None:
        raise ValueError(
            f"run: expected a folder that no process is training in, got {folder}, "
            f"which {owner} uses; choose another folder"
        )
    if any(file.name != folder_lock.NAME for file in folder.iterdir()):
        lock.release()
        raise ValueError(
            f"run: expected a new or empty folder, got {folder}, which holds files; "
            f"choose another folder, or continue that run with --resume {folder}"
        )
    return folder


def _lock_new(lock: FolderLock, folder: Path) -> Path:
    """Create and lock a folder of this name, with a number appended if it exists."""
    for number in itertools.count(1):
        candidate = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        with suppress(FileExistsError):
            if lock.create(candidate, exist_ok=False) is None:
                break
    return candidate


def name_of(path: str | Path) -> str:
    """Return the name of a configuration: of the run without its date, if it belongs to one."""
    path = Path(path)
    if path.name != "config.yaml":
        return path.stem
    return re.sub(r"-\d{8}-\d{6}(-\d+)?$", "", path.resolve().parent.name)


def _train_command() -> str:
    launcher = program("python")
    if processes.is_distributed():
        launcher = f"{program('torchrun')} --nproc-per-node {processes.world_size()} --"
    return f"{launcher} train.py"


def program(name: str) -> str:
    """Return the shortest command that runs a program of this Python environment."""
    path = Path(sys.executable).with_name(name)
    if not path.exists() or shutil.which(name) == str(path):
        return name
    return os.path.relpath(path)
