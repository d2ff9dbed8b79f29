"""Commands to try after a run: its end prints them, each runs as it is printed."""

import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from seqcells.lab.training.config import Config
from seqcells.lab.training.runs import Run, program

# Texts in the words of each source of data. A prompt of characters ends within a word.
TEXTS = {
    ("sentiment", "corpus"): "It is good, not bad.",
    ("sentiment", "imdb"): "not bad at all",
    ("capitals", "corpus"): "seen on monday with aunt ida",
    ("capitals", "imdb"): "i saw it in new york",
}
DATE = "May 3rd, 2004"
PROMPTS = {
    ("words", "corpus"): "it is not",
    ("words", "imdb"): "this film",
    ("characters", "corpus"): "it is n",
    ("characters", "imdb"): "this fi",
}
CELLS = ("rnn", "gru", "lstm")


def suggest_commands(run: Run) -> list[str]:
    """Return shell commands for the folder of a finished run, which suit its task and settings."""
    return [*_use(run), _variant(run), _seqcells("report", run.folder)]


def _use(run: Run) -> Iterator[str]:
    """Yield a command that uses the model, if the task has one."""
    config, folder = run.config, run.folder
    source, unit = config.data.source, config.data.unit
    if config.task == "dates":
        yield _seqcells("predict", folder, DATE)
    elif config.task in ("sentiment", "capitals"):
        yield _seqcells("predict", folder, TEXTS[config.task, source])
    elif config.task == "language" and not config.model.bidirectional:
        yield _seqcells("generate", folder, PROMPTS[unit, source])
    elif config.task == "language" and unit == "words":
        # It cannot write, but a classifier with its words and recurrence can start from it.
        labelled = ["--data.unlabelled", "false"] if config.data.unlabelled else []
        start = ["--task", "sentiment", "--training.start_from", folder]
        yield _train(run, *start, *labelled)
    elif config.task in ("adding", "copying"):
        yield _train(run, "--data.steps", 2 * config.data.steps)  # a longer memory
    elif config.task == "digits" and len(cells := _valid_cells(config)) > 1:
        yield _seqcells("compare", run.settings, "--model.cell", ",".join(cells))


def _variant(run: Run) -> str:
    """Return a command that trains something to compare the run with."""
    if run.config.task == "sentiment" and run.config.data.source == "corpus":
        other = "corpus_lstm" if run.config.model.kind == "words" else "corpus_words"
        path = Path(f"configs/{other}.yaml")
        if path.is_file():
            return _seqcells("compare", path, run.folder)
    return _train(run, "--training.seed", run.config.training.seed + 1)


def _valid_cells(config: Config) -> list[str]:
    """Return the cells that support the other settings of the model, such as a forget bias."""
    valid = []
    for cell in CELLS:
        try:
            replace(config.model, cell=cell)
        except ValueError:
            continue
        valid.append(cell)
    return valid


def _seqcells(*arguments: object) -> str:
    return shlex.join([program("seqcells"), *map(str, arguments)])


def _train(run: Run, *arguments: object) -> str:
    script = (
        sys.argv[0] if Path(sys.argv[0]).name == "train.py" else "train.py"
    )  # as it was started
    return shlex.join([program("python"), script, str(run.settings), *map(str, arguments)])
