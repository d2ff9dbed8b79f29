"""The commands of `seqcells`, from parsed options to printed results."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch

from seqcells.lab.export import export_run
from seqcells.lab.export.c import self_test_command
from seqcells.lab.models.generation import generate
from seqcells.lab.prediction import Classifier
from seqcells.lab.prediction.batch import (
    check_output,
    file_kind,
    predict_file,
    predict_texts,
    read_lines,
)
from seqcells.lab.training import Run, command, evaluate, load_best, task_of
from seqcells.lab.training.comparison import compare
from seqcells.lab.training.tasks.base import describe

MAX_NAMES = 4  # of runs in the name of a report
REPORT_HEAD = 4096  # bytes in which a report has its title


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
    model = load_best(run, vocabulary, options.quantize)
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
        _answer(run, texts, options.quantize)
    elif texts or explained:
        classifier = Classifier(run, options.quantize)
        predict_texts(classifier, texts or read_lines(), explained=explained)
    else:
        file = file or "-"
        kind = file_kind(file, options.format)
        if options.output is not None:
            check_output(file, options.output)
        classifier = Classifier(run, options.quantize)
        predict_file(classifier, file, kind=kind, column=options.column, output=options.output)


def _answer(run: Run, texts: Sequence[str], quantize: str | None) -> None:
    """Print one answer per text, or per line of standard input, as soon as it is computed."""
    task = task_of(run.config)
    if not task.answers:
        raise ValueError(
            f"expected a run of a task that answers texts, got one of {run.config.task}"
        )
    vocabulary = run.load_vocabulary()
    texts = texts or read_lines()
    for number, text in enumerate(texts, 1):
        if not vocabulary.tokenise(text):
            raise ValueError(f"text {number}: expected at least one word, got {text!r}")
    model = load_best(run, vocabulary, quantize)
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
    path = export_run(
        options.run,
        options.format,
        options.output,
        stateful=options.stateful,
        weights=options.weights,
    )
    print(f"C code: {path}; test it: {self_test_command(path)}" if options.format == "c" else path)


def _report(options: argparse.Namespace) -> None:
    from seqcells.lab.report import write_report  # imported here because it imports SciPy

    runs = [_open_run(folder, options.path) for folder in options.runs]
    path = Path(options.output) if options.output else _report_path(runs)
    if path.exists() and not _is_report(path):
        raise ValueError(
            f"--output: expected a new file or an earlier report, got {path}, which is neither; "
            "choose another name"
        )
    write_report(runs, path, options.split)
    print(f"report: {path}")


def _report_path(runs: Sequence[Run]) -> Path:
    """Return the default path of a report: in the run's folder, or below runs/ for several."""
    if len(runs) == 1:
        return runs[0].folder / "report.html"
    names = [run.folder.resolve().name for run in runs]
    if len(names) > MAX_NAMES:
        names = [*names[:MAX_NAMES], f"and-{len(names) - MAX_NAMES}-more"]
    path = Path("runs", f"report-{'-'.join(names)}.html")
    path.parent.mkdir(exist_ok=True)
    return path


def _is_report(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(REPORT_HEAD).lstrip()
    return head.startswith(b"<!DOCTYPE html") and b"seqcells report" in head


def _compare(options: argparse.Namespace) -> None:
    compare(
        options.items,
        varied=options.varied,
        seeds=options.seeds,
        folder=options.folder,
        data_path=options.path,
    )


COMMANDS = {
    "evaluate": _evaluate,
    "predict": _predict,
    "generate": _generate,
    "export": _export,
    "compare": _compare,
    "report": _report,
}


def run(options: argparse.Namespace) -> int:
    """Run a command and return the exit status."""
    return command(lambda _: COMMANDS[options.command](options), [])
