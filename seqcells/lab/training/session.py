"""One training run, new or resumed, from the data to the result."""

from pathlib import Path
from typing import Any

import torch

from seqcells.lab.training import processes
from seqcells.lab.training.config import Config
from seqcells.lab.training.devices import device_of
from seqcells.lab.training.loop import Trainer
from seqcells.lab.training.results import finish
from seqcells.lab.training.runs import Run
from seqcells.lab.training.tasks import task_of
from seqcells.lab.training.teachers import teachers_to_train
from seqcells.lab.training.termination import (
    InterruptedRunError,
    deferred_signals,
    interruptible,
)


def train(run: Run, *, resumed: bool = False) -> dict[str, Any]:
    """Train the model of a run, test it, and return the content of `metrics.json`.

    Teachers that are not trained yet are trained first. The run's folder is locked until the end.
    It is removed if nothing has been written to it.
    """
    with run:
        _train_teachers(run)
        return _train(run, resumed)


def train_in(folder: Path, config: Config) -> dict[str, Any]:
    """Return the result of the run in a folder: read it, resume the run, or train it.

    Raises:
        ValueError: the folder has a run of another configuration.
    """
    if not processes.broadcast((folder / "config.yaml").exists()):
        return train(Run.create(config, folder.name))
    run = Run.open(folder, config)
    if processes.broadcast(run.result.exists()):
        return run.read_result()
    return train(Run.resume(folder, config), resumed=True)


def _train_teachers(run: Run) -> None:
    """Train the teachers in turn, each in its folder. Finished runs there are reused."""
    planned = list(teachers_to_train(run.config))
    for number, (folder, config) in enumerate(planned, 1):
        if processes.is_main():
            print(f"teacher {number}/{len(planned)}: {folder}", flush=True)
        try:
            train_in(folder, config)
        except InterruptedRunError:
            raise InterruptedRunError(
                f"interrupted in {folder}; run the same command again to continue"
            ) from None
    if planned and processes.is_main():
        print(f"student: {run.folder}", flush=True)


def _train(run: Run, resumed: bool) -> dict[str, Any]:
    config = run.config.training
    device = device_of(config)
    if device.type == "cuda":
        torch.cuda.set_device(device)

    with interruptible("interrupted before training; run the same command again"):
        # Data: batches of examples of similar length. The vocabulary comes from the training texts.
        task = task_of(run.config)
        data = task.load(run.load_vocabulary() if resumed and task.reads_text else None)

        # Model: initial weights depend only on the seed, not on the backend or the processes.
        torch.manual_seed(config.seed)
        torch.set_num_threads(config.threads)
        model = task.build(data.vocabulary)
        if processes.rank():
            torch.manual_seed(config.seed + processes.rank())  # different dropout masks

        # Pretrained weights, on the CPU.
        source = None if resumed else task.begin(model, data)
        if source and processes.is_main():
            print(f"starting from {source}")

    # Loop: saves the best model by validation loss, and the state of training.
    if not resumed and processes.is_main():
        run.begin(data.vocabulary)
    trainer = Trainer(run, task, model.to(device), data)
    if resumed:
        trainer.resume()
    with deferred_signals() as interrupted:
        progress = trainer.fit(interrupted)

        # Report: the test split is read here only.
        return finish(run, data.vocabulary, progress, interrupted)
