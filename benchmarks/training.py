"""Train on IMDB with our LSTM and torch.nn's, batch by batch in turn: tokens per second.

python -m benchmarks.training PATH_TO_IMDB

The model, the batches and the optimizer are those of configs/imdb_lstm.yaml. Every side has the
same initial weights and dropout masks.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.options import at_least_one, parser_of
from seqcells.lab.models import TextClassifier
from seqcells.lab.training import Config, Run, Trainer, TrainingData, command, parse, task_of

CONFIG = Path(__file__).parents[1] / "configs" / "imdb_lstm.yaml"
PLAIN = ["--training.adversarial=0", "--training.average=null"]  # one pass per batch
OURS = "seqcells"


class PaddedClassifier(TextClassifier):
    """torch.nn's layer on padded input without packing. Its results are wrong.

    The backward direction reads the padding first. The readout skips padding, as in every model.
    """

    def recur(self, words: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        outputs, state = self.recurrent(words)
        return outputs, state[0] if isinstance(state, tuple) else state


SIDES = {
    OURS: ("seqcells", TextClassifier),
    "torch.nn, packed": ("torch", TextClassifier),
    "torch.nn, padded": ("torch", PaddedClassifier),
}


def make_trainers(config: Config, data: TrainingData) -> dict[str, Trainer]:
    """Return a trainer for each side; their runs are never written."""
    trainers = {}
    for name, (backend, kind) in SIDES.items():
        torch.manual_seed(config.training.seed)
        model_config = replace(config.model, backend=backend)
        model = kind(model_config, len(data.vocabulary)).train()
        run = Run(Path("unwritten"), replace(config, model=model_config))
        trainers[name] = Trainer(run, task_of(run.config), model, data)
    return trainers


def train(trainers: dict[str, Trainer], data: TrainingData, batches: int) -> None:
    """Train every side on some batches of the first epoch, in an order that rotates by batch."""
    names = list(trainers)
    epoch = islice(data.train.epoch(1), batches)
    for number, batch in enumerate(tqdm(epoch, total=batches, leave=False, disable=None)):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            torch.manual_seed(number)
            trainers[name].step(batch)


def main(argv: Sequence[str]) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("path", help="aclImdb_v1.tar.gz or its extracted folder")
    parser.add_argument("--batches", type=at_least_one, help="number of batches (default: all)")
    parser.add_argument(
        "--threads", type=at_least_one, default=torch.get_num_threads(), help="default: %(default)s"
    )
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    config, _, _ = parse([str(CONFIG), "--data.path", options.path, *PLAIN])
    data = task_of(config).load()
    batches = min(options.batches or len(data.train), len(data.train))
    trainers = make_trainers(config, data)
    train(trainers, data, batches)

    tokens = trainers[OURS].progress.sums.tokens
    print(
        f"torch {torch.__version__}, {options.threads} threads; {CONFIG.stem}, {batches} of "
        f"{len(data.train)} batches, {tokens:,} tokens, "
        f"{data.train.padding_share(1):.0%} padding in the epoch\n"
    )
    print("| layers | seconds | tokens/s | speed-up of seqcells | loss |")
    print("|---|---:|---:|---:|---:|")
    for name, trainer in trainers.items():
        speed, seconds = trainer.progress.sums.speed(), trainer.progress.sums.seconds
        ratio = trainers[OURS].progress.sums.speed() / speed
        loss = trainer.train_scores()["loss"]
        print(f"| {name} | {seconds:.1f} | {speed:,.0f} | {ratio:.2f} | {loss:.4f} |")


if __name__ == "__main__":
    sys.exit(command(main, sys.argv[1:]))
