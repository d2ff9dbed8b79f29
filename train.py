"""Train a recurrent network: settings, data, model, loop, report.

python train.py configs/corpus_lstm.yaml
python train.py configs/imdb_lstm.yaml --data.path aclImdb_v1.tar.gz --training.seed 1
python train.py --resume runs/NAME
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from seqcells.training import (
    Run,
    Trainer,
    command,
    conclude,
    deferred_signals,
    finish,
    parse,
    task_of,
)


def main(argv: Sequence[str]) -> None:
    # Settings: a YAML file, and above it the command line. A run is a folder.
    config, file, resumed = parse(argv)
    run = Run.resume(resumed, config) if resumed else Run.create(config, Path(file or "run").stem)
    config = run.config

    # Data: batches of examples of similar length. The words are those of the training texts.
    task = task_of(config)
    data = task.load(run.load_vocabulary() if resumed and task.reads_text else None)

    # Model: the seed decides its weights, whichever backend computes.
    torch.manual_seed(config.training.seed)
    torch.set_num_threads(config.training.threads)
    model = task.build(data.vocabulary)

    # Loop: keeps the best model on the validation texts, and where training stands.
    trainer = Trainer(run, task, model, data)
    if resumed:
        trainer.resume()
    else:
        run.begin(data.vocabulary)
        if begun := task.begin(model, data.vocabulary):
            print(f"starting from {begun}")
    with deferred_signals() as interrupted:
        progress = trainer.fit(interrupted)

        # Report: the test texts are read here, once.
        result = finish(run, data.vocabulary, progress, interrupted)
    print(conclude(run, result))


if __name__ == "__main__":
    sys.exit(command(main, sys.argv[1:]))
