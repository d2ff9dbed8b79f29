"""The `seqcells` command: evaluate, predict, generate, export, compare and report runs."""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NoReturn

import torch

from seqcells.lab.export import FORMATS, export_run
from seqcells.lab.models.generation import generate
from seqcells.lab.prediction import Classifier
from seqcells.lab.prediction.batch import file_kind, predict_file, predict_texts
from seqcells.lab.prediction.files import KINDS
from seqcells.lab.training import Run, command, evaluate, load_best, task_of
from seqcells.lab.training.comparison import compare
from seqcells.lab.training.tasks.base import describe


class _Parser(argparse.ArgumentParser):
    """Raises errors instead of printing usage, so that every error is one line."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="seqcells", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    part = commands.add_parser("evaluate", help="evaluate a run's best model")
    part.add_argument("run", metavar="RUN")
    part.add_argument("--split", choices=("test", "validation"), default="test")
    part.add_argument("--data.path", dest="path", metavar="PATH", help="path of the IMDB data set")
    part.set_defaults(function=_evaluate)

    part = commands.add_parser("predict", help="classify or transform texts")
    part.add_argument("run", metavar="RUN")
    part.add_argument(
        "texts", nargs="*", metavar="TEXT", help="default: one text per line from stdin"
    )
    part.add_argument("--file", metavar="FILE", help=".txt, .csv or .jsonl; - for standard input")
    part.add_argument("--format", choices=KINDS, help="file format (default: by suffix)")
    part.add_argument("--column", default="text", metavar="NAME", help="column or key of the texts")
    part.add_argument("--output", metavar="FILE", help="default: standard output")
    part.add_argument(
        "--explain", nargs="*", metavar="TEXT", help="print the contribution of each word"
    )
    part.set_defaults(function=_predict)

    part = commands.add_parser("generate", help="sample text from a language model")
    part.add_argument("run", metavar="RUN")
    part.add_argument("beginning", nargs="*", metavar="WORD", help="prompt")
    part.add_argument("--length", type=int, default=200, help="maximum number of tokens")
    part.add_argument("--temperature", type=float, default=0.8, help="0: greedy decoding")
    part.add_argument("--top-k", type=int, metavar="K", help="sample from the K most likely tokens")
    part.add_argument("--seed", type=int, default=0)
    part.set_defaults(function=_generate)

    part = commands.add_parser("export", help="export a run's best model to another format")
    part.add_argument("run", metavar="RUN")
    part.add_argument("--format", choices=tuple(FORMATS), required=True)
    part.add_argument("--output", metavar="FILE", help="default: model.SUFFIX in the run folder")
    part.add_argument(
        "--stateful",
        action="store_true",
        help="ONNX: read texts in chunks, with the state as input",
    )
    part.set_defaults(function=_export)

    part = commands.add_parser(
        "compare",
        help="train configurations and print a table of results",
        epilog="vary any setting with a list of values: --model.cell rnn,gru,lstm",
    )
    part.add_argument("items", nargs="+", metavar="CONFIG|RUN")
    part.add_argument("--seeds", type=int, default=1, help="number of seeds per configuration")
    part.add_argument(
        "--folder", default="runs/compare", help="folder of the runs; resumes unfinished ones"
    )
    part.add_argument("--data.path", dest="path", metavar="PATH", help="path of the IMDB data set")
    part.set_defaults(function=_compare)

    part = commands.add_parser(
        "report", help="write an HTML report with metrics, charts and examples"
    )
    part.add_argument("runs", nargs="+", metavar="RUN")
    part.add_argument(
        "--output",
        metavar="FILE",
        help="default: report.html, in the run folder if there is one run",
    )
    part.add_argument("--split", choices=("test", "validation"), default="test")
    part.add_argument("--data.path", dest="path", metavar="PATH", help="path of the IMDB data set")
    part.set_defaults(function=_report)
    return parser


def _open_run(folder: str, path: str | None) -> Run:
    """Open a run, optionally with another path of its data set."""
    run = Run.open(folder)
    if path is not None:
        run.config = replace(run.config, data=replace(run.config.data, path=path))
    return run


def _evaluate(options: argparse.Namespace) -> None:
    run = _open_run(options.run, options.path)
    task = task_of(run.config)
    vocabulary = run.load_vocabulary() if task.reads_text else None
    model = load_best(run, vocabulary)
    scores = evaluate(task, model, task.load_split(vocabulary, options.split))
    print(f"{options.split} {describe(scores)}")


def _predict(options: argparse.Namespace) -> None:
    run, file, explained = Run.open(options.run), options.file, options.explain is not None
    texts = [*options.texts, *(options.explain or [])]
    for option, value in (("--file", file), ("--output", options.output)):
        if value is not None and (texts or explained):
            raise ValueError(
                f"{option}: expected no {option} together with texts or --explain, got {value}"
            )
    if run.config.task != "sentiment":
        if explained or file is not None or options.output is not None:
            raise ValueError(
                "--file, --output, --explain: expected a run of the task sentiment, "
                f"got one of {run.config.task}"
            )
        _answer(run, texts or [line.rstrip("\n") for line in sys.stdin])
    elif texts or explained:
        texts = texts or [line.rstrip("\n") for line in sys.stdin]
        predict_texts(Classifier(run), texts, explained=explained)
    else:
        file = file or "-"
        kind = file_kind(file, options.format)
        classifier = Classifier(run)
        predict_file(classifier, file, kind=kind, column=options.column, output=options.output)


def _answer(run: Run, texts: Sequence[str]) -> None:
    """Print one answer per text as soon as it is computed."""
    if not texts:
        raise ValueError("expected texts as arguments or on standard input, got none")
    task = task_of(run.config)
    if not task.answers:
        raise ValueError(
            f"expected a run of a task that answers texts, got one of {run.config.task}"
        )
    vocabulary = run.load_vocabulary()
    for number, text in enumerate(texts, 1):
        if not vocabulary.tokenise(text):
            raise ValueError(f"text {number}: expected at least one word, got {text!r}")
    model = load_best(run, vocabulary)
    with torch.no_grad():
        for text in texts:
            print(task.answer(model, vocabulary, text))


def _generate(options: argparse.Namespace) -> None:
    """Print each token as soon as it is sampled."""
    run = Run.open(options.run)
    if run.config.task != "language":
        raise ValueError(f"expected a run of the task language, got one of {run.config.task}")
    vocabulary = run.load_vocabulary()
    text = " ".join(options.beginning)
    tokens = generate(
        load_best(run, vocabulary),
        vocabulary.encode(text),
        temperature=options.temperature,
        top_k=options.top_k,
        generator=torch.Generator().manual_seed(options.seed),
    )
    separator = " " if vocabulary.unit == "words" else ""
    print(text, end="", flush=True)
    for number, token in enumerate(islice(tokens, options.length)):
        print((separator if number or text else "") + vocabulary.words[token], end="", flush=True)
    print()


def _export(options: argparse.Namespace) -> None:
    print(export_run(options.run, options.format, options.output, stateful=options.stateful))


def _report(options: argparse.Namespace) -> None:
    from seqcells.lab.report import write_report  # imported here because it imports SciPy

    runs = [_open_run(folder, options.path) for folder in options.runs]
    folder = runs[0].folder if len(runs) == 1 else Path()
    path = Path(options.output) if options.output else folder / "report.html"
    write_report(runs, path, options.split)
    print(f"report: {path}")


def _compare(options: argparse.Namespace) -> None:
    compare(
        options.items,
        varied=options.varied,
        seeds=options.seeds,
        folder=options.folder,
        data_path=options.path,
    )


def varied_settings(arguments: Sequence[str]) -> dict[str, list[str]]:
    """Parse `--dotted.key a,b` and `--dotted.key=a,b` into lists of values by key."""
    varied, rest = {}, list(arguments)
    while rest:
        key, equals, values = rest.pop(0).partition("=")
        if not key.startswith("--") or "." not in key:
            raise ValueError(f"unrecognized arguments: {key}")
        if not equals:
            if not rest:
                raise ValueError(f"{key}: expected values, as in {key} a,b, got none")
            values = rest.pop(0)
        varied[key.removeprefix("--")] = re.split(r",(?![^\[]*\])", values)
    return varied


def _run(argv: Sequence[str]) -> None:
    options, rest = build_parser().parse_known_args(argv)
    if rest and options.command != "compare":
        raise ValueError(f"unrecognized arguments: {' '.join(rest)}")
    options.varied = varied_settings(rest)
    options.function(options)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `seqcells` command and return the exit status."""
    return command(_run, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
