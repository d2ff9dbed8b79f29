"""A training from its beginning, or from where it was left, to its result."""

from typing import Any

import torch

from seqcells.lab.training import processes
from seqcells.lab.training.devices import device_of
from seqcells.lab.training.loop import Trainer
from seqcells.lab.training.results import finish
from seqcells.lab.training.runs import Run
from seqcells.lab.training.tasks import task_of
from seqcells.lab.training.termination import deferred_signals


def train(run: Run, *, resumed: bool = False) -> dict[str, Any]:
    """Train a run's model, test it, and return what `metrics.json` holds."""
    config = run.config.training
    device = device_of(config)
    if device.type == "cuda":
        torch.cuda.set_device(device)

    # Data: batches of examples of similar length. The words are those of the training texts.
    task = task_of(run.config)
    data = task.load(run.load_vocabulary() if resumed and task.reads_text else None)

    # Model: the seed decides its weights, whichever backend computes and however many processes.
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    model = task.build(data.vocabulary)
    if processes.number():
        torch.manual_seed(config.seed + processes.number())  # dropout of its own

    # What it starts from is found on the CPU.
    begun = None if resumed else task.begin(model, data.vocabulary)
    if begun and processes.writes():
        print(f"starting from {begun}")

    # Loop: keeps the best model on the validation examples, and where training stands.
    if not resumed and processes.writes():
        run.begin(data.vocabulary)
    trainer = Trainer(run, task, model.to(device), data)
    if resumed:
        trainer.resume()
    with deferred_signals() as interrupted:
        progress = trainer.fit(interrupted)

        # Report: the test examples are read here, once.
        return finish(run, data.vocabulary, progress, interrupted)
