"""`seqcells evaluate | predict | compare`: what one does with trained runs."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

import torch

from seqcells.training import Run, command, encode, evaluate, load_best, task_of
from seqcells.training.comparison import compare
from seqcells.training.tasks.base import describe


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every command here."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="seqcells", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    part = commands.add_parser("evaluate", help="loss and accuracy of a run's best model")
    part.add_argument("run", metavar="RUN")
    part.add_argument("--split", choices=("test", "validation"), default="test")
    part.add_argument("--data.path", dest="path", metavar="PATH", help="where the texts lie now")
    part.set_defaults(function=_evaluate)

    part = commands.add_parser("predict", help="how probable it is that a text is positive")
    part.add_argument("run", metavar="RUN")
    part.add_argument("texts", nargs="*", metavar="TEXT", help="default: a text a line, from stdin")
    part.set_defaults(function=_predict)

    part = commands.add_parser("compare", help="train configurations, take runs; print a table")
    part.add_argument("items", nargs="+", metavar="CONFIG|RUN")
    part.add_argument("--data.path", dest="path", metavar="PATH", help="for the configurations")
    part.set_defaults(function=_compare)
    return parser


def _evaluate(options: argparse.Namespace) -> None:
    run = Run.open(options.run)
    config = run.config
    if options.path is not None:
        config = replace(config, data=replace(config.data, path=options.path))
    task, vocabulary = task_of(config), run.load_vocabulary()
    model = load_best(run, vocabulary)
    scores = evaluate(task, model, task.load_split(vocabulary, options.split))
    print(f"{options.split} {describe(scores)}")


def _predict(options: argparse.Namespace) -> None:
    run = Run.open(options.run)
    texts = options.texts or [line.rstrip("\n") for line in sys.stdin]
    if not texts:
        raise ValueError("expected texts, as arguments or on standard input, got none")
    vocabulary, data = run.load_vocabulary(), run.config.data
    examples = []
    for number, text in enumerate(texts, 1):
        tokens = encode(text, vocabulary, data)
        if not tokens:
            raise ValueError(f"text {number}: expected at least one word, got {text!r}")
        examples.append(torch.tensor(tokens).unsqueeze(1))
    model = load_best(run, vocabulary)
    with torch.no_grad():
        for text, tokens in zip(texts, examples):
            probability = model(tokens, torch.tensor([len(tokens)])).sigmoid().item()
            label = "positive" if probability > 0.5 else "negative"
            print(f"{probability:.4f}  {label}  {text}")


def _compare(options: argparse.Namespace) -> None:
    compare(options.items, options.path)


def _run(argv: Sequence[str]) -> None:
    options = build_parser().parse_args(argv)
    options.function(options)


def main(argv: Sequence[str] | None = None) -> int:
    """The console command; returns the exit status."""
    return command(_run, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
