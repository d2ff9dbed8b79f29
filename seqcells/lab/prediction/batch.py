"""Prediction of whole files: what can be read is answered, what cannot is named."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from seqcells.lab.explanation import coloured, listed
from seqcells.lab.files import write_atomically
from seqcells.lab.prediction.classifier import Classifier
from seqcells.lab.prediction.files import KINDS, Record, read_records, write_answers


def kind_of(file: str, kind: str | None) -> str:
    """A file's kind: as given, or by its ending; lines of text from standard input."""
    if kind is not None or file == "-":
        return kind or "txt"
    ending = Path(file).suffix.removeprefix(".").lower()
    if ending not in KINDS:
        endings = ", ".join(f".{name}" for name in KINDS)
        raise ValueError(f"expected a file that ends with {endings}, got {file}; give its --format")
    return ending


def predict_texts(classifier: Classifier, texts: Sequence[str], *, explained: bool) -> None:
    """Answer texts on standard output, a line each; below it, what each word does."""
    show = coloured if sys.stdout.isatty() else listed
    for number, (text, share) in enumerate(zip(texts, classifier.predict(texts).tolist()), 1):
        write_answers(sys.stdout, "txt", [Record(number, text, {})], [share])
        if explained:
            print(show(classifier.explain(text)))


def predict_file(
    classifier: Classifier, file: str, *, kind: str, column: str, output: str | None
) -> None:
    """Answer the texts of a file (`-`: standard input), to `output` or standard output.

    Raises:
        ValueError: records could not be read; each was named on standard error, and the others
            were answered.
    """
    content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    records = read_records(content, kind, column)
    if not records:
        raise ValueError(f"expected texts in {file}, got none")
    good, bad = _parted(classifier, records)
    for record in bad:
        print(f"{file}:{record.line}: {record.problem}", file=sys.stderr)
    texts = [record.text for record in good]
    shares = classifier.predict(texts, progress=sys.stderr.isatty()).tolist() if texts else []

    def write(to: TextIO) -> None:
        write_answers(to, kind, good, shares)

    if output is None:
        write(sys.stdout)
    else:
        text = io.StringIO()
        write(text)
        write_atomically(Path(output), lambda to: to.write(text.getvalue().encode()))
    if bad:
        where = f"; the others are answered in {output or 'standard output'}" if good else ""
        raise ValueError(f"{len(bad)} of {len(records)} texts in {file} cannot be read{where}")


def _parted(classifier: Classifier, records: list[Record]) -> tuple[list[Record], list[Record]]:
    """What can be read, and what cannot, with its problem."""
    good: list[Record] = []
    bad: list[Record] = []
    for record in records:
        if record.problem is None and not classifier.vocabulary.tokenise(record.text):
            record = record._replace(problem=f"expected at least one word, got {record.text!r}")
        (good if record.problem is None else bad).append(record)
    return good, bad
