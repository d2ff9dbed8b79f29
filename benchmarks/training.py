"""Train on IMDB with our LSTM and with torch.nn's, batch by batch in turn: tokens a second.

python -m benchmarks.training PATH_TO_IMDB

The model, the batches and the optimiser are those of configs/imdb_lstm.yaml. Every side starts from
the same weights and draws the same dropout.
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
PLAIN = ["--training.adversarial=0", "--training.average=null"]  # one pass a batch, no more
OURS = "seqcells"


class PaddedClassifier(TextClassifier):
    """torch.nn's layer over the padding too, as where nobody packs. What it computes is wrong.

    The backward direction reads padding first; the readout skips it, as in every other model.
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
    """A trainer for each side, of a run that is never written."""
    trainers = {}
    for name, (backend, kind) in SIDES.items():
        torch.manual_seed(config.training.seed)
        model_config = replace(config.model, backend=backend)
        model = kind(model_config, len(data.vocabulary)).train()
        run = Run(Path("unwritten"), replace(config, model=model_config))
        trainers[name] = Trainer(run, task_of(run.config), model, data)
    return trainers


def train(trainers: dict[str, Trainer], data: TrainingData, batches: int) -> None:
    """Some batches of the first epoch, each by every side; another one begins each time."""
    names = list(trainers)
    epoch = islice(data.train.epoch(1), batches)
    for number, batch in enumerate(tqdm(epoch, total=batches, leave=False, disable=None)):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            torch.manual_seed(number)
            trainers[name].step(batch)


def main(argv: Sequence[str]) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("path", help="the reviews: aclImdb_v1.tar.gz or its extracted folder")
    parser.add_argument("--batches", type=at_least_one, help="of the epoch (default: all)")
    parser.add_argument("--threads", type=at_least_one, default=torch.get_num_threads())
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
    print("| layers | seconds | tokens/s | seqcells / it | loss |")
    print("|---|---:|---:|---:|---:|")
    for name, trainer in trainers.items():
        speed, seconds = trainer.progress.sums.speed(), trainer.progress.sums.seconds
        ratio = trainers[OURS].progress.sums.speed() / speed
        loss = trainer.train_scores()["loss"]
        print(f"| {name} | {seconds:.1f} | {speed:,.0f} | {ratio:.2f} | {loss:.4f} |")


if __name__ == "__main__":
    sys.exit(command(main, sys.argv[1:]))
