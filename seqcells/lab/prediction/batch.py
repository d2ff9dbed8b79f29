"""Prediction for texts and files on the command line."""

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from seqcells.lab.explanation import LEGEND, coloured_legend, format_coloured, format_table
from seqcells.lab.files import write_atomically
from seqcells.lab.prediction.classifier import Classifier
from seqcells.lab.prediction.files import KINDS, Record, read_records, write_answers


def file_kind(file: str, kind: str | None) -> str:
    """Return the format of a file: `kind` if given, else by its suffix; `txt` for stdin."""
    if kind is not None or file == "-":
        return kind or "txt"
    suffix = Path(file).suffix.removeprefix(".").lower()
    if suffix not in KINDS:
        suffixes = ", ".join(f".{name}" for name in KINDS)
        raise ValueError(
            f"expected a file with a suffix of {suffixes}, got {file}; set its --format"
        )
    return suffix


def check_output(file: str, output: str) -> None:
    """Check that predictions of `file` (`-`: standard input) can be written to `output`.

    Raises:
        ValueError: both are the same file, by any path, or the folder of `output` does not exist.
    """
    path = Path(output)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(f"--output: expected a file in a folder that exists, got {output}")
    source = _status(file)
    if source is not None and path.exists() and os.path.samestat(source, path.stat()):
        name = "standard input" if file == "-" else file
        raise ValueError(
            f"--output: expected another file than the input, got {output}, the same file as "
            f"{name}; choose another name"
        )


def _status(file: str) -> os.stat_result | None:
    """Return the status of an input file, or None if it has none."""
    try:
        return os.fstat(sys.stdin.fileno()) if file == "-" else os.stat(file)
    except OSError:
        return None


def announce_terminal(kind: str = "txt") -> None:
    """Say on standard error that standard input is read, if it is a terminal."""
    if sys.stdin.isatty():
        texts = "texts, one per line," if kind == "txt" else kind
        print(f"reading {texts} from standard input; end with Ctrl-D", file=sys.stderr, flush=True)


def read_lines() -> list[str]:
    """Return the lines of standard input, at least one."""
    announce_terminal()
    lines = [line.rstrip("\n") for line in sys.stdin]
    if not lines:
        raise ValueError("expected texts as arguments or on standard input, got none")
    return lines


def predict_texts(classifier: Classifier, texts: Sequence[str], *, explained: bool) -> None:
    """Print one line per text, followed by its explanation if `explained`, after a legend."""
    coloured = sys.stdout.isatty()
    format_explanation = format_coloured if coloured else format_table
    if explained:
        print(coloured_legend() if coloured else LEGEND)
    for number, (text, probability) in enumerate(zip(texts, classifier.predict(texts).tolist()), 1):
        write_answers(sys.stdout, "txt", [Record(number, text, {})], [probability])
        if explained:
            print(format_explanation(classifier.explain(text)))


def predict_file(
    classifier: Classifier, file: str, *, kind: str, column: str, output: str | None
) -> None:
    """Predict the texts of a file (`-`: standard input); write to `output` or standard output.

    Raises:
        ValueError: the file has no texts, or some records are invalid. Invalid records are listed
            on standard error and the other records are still predicted.
    """
    if file == "-":
        announce_terminal(kind)
        content = sys.stdin.buffer.read()
    else:
        content = Path(file).read_bytes()
    records = read_records(content, kind, column)
    if not records:
        raise ValueError(f"expected texts in {file}, got none")
    valid, invalid = _validate(classifier, records)
    for record in invalid:
        print(f"{file}:{record.line}: {record.problem}", file=sys.stderr)
    texts = [record.text for record in valid]
    progress = sys.stderr.isatty()
    probabilities = classifier.predict(texts, progress=progress).tolist() if texts else []

    def write(to: TextIO) -> None:
        write_answers(to, kind, valid, probabilities)

    if output is None:
        write(sys.stdout)
    else:
        text = io.StringIO()
        write(text)
        write_atomically(Path(output), lambda to: to.write(text.getvalue().encode()))
    if invalid:
        where = f"; predictions of the others: {output or 'standard output'}" if valid else ""
        raise ValueError(
            f"expected {len(records)} valid texts in {file}, got {len(invalid)} invalid ones{where}"
        )


def _validate(classifier: Classifier, records: list[Record]) -> tuple[list[Record], list[Record]]:
    """Split records into valid ones and invalid ones with their problem."""
    valid: list[Record] = []
    invalid: list[Record] = []
    for record in records:
        if record.problem is None and not classifier.vocabulary.tokenise(record.text):
            record = record._replace(problem=f"expected at least one word, got {record.text!r}")
        (valid if record.problem is None else invalid).append(record)
    return valid, invalid
