"""Texts out of files, a record each, and the answers to them in the same form."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple, TextIO

KINDS = ("txt", "csv", "jsonl")


class Record(NamedTuple):
    """One text of a file, or why there is none."""

    line: int  # where it begins
    text: str
    fields: dict[str, Any]  # what else the record holds, and the text
    problem: str | None = None


def read_records(content: bytes, kind: str, column: str) -> list[Record]:
    """The records of a file of UTF-8: a text a line; CSV with a header; or an object a line.

    Of the latter two, `column` names the text. A record that cannot be read is one with a
    problem.

    Raises:
        ValueError: `kind` is none of `txt`, `csv`, `jsonl`, or a CSV file has no such column.
    """
    if kind not in KINDS:
        raise ValueError(f"expected a file of kind {', '.join(KINDS)}, got {kind!r}")
    # What is not UTF-8 becomes lone surrogates, which no readable text has.
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    if kind == "csv":
        records = _rows(text, column)
    else:
        read = _object if kind == "jsonl" else _line
        lines = enumerate(io.StringIO(text, newline=None), 1)
        records = [read(number, line.rstrip("\n"), column) for number, line in lines]
    return [_checked(record) for record in records]


def _line(number: int, line: str, _: str) -> Record:
    return Record(number, line, {})


def _object(number: int, line: str, column: str) -> Record:
    try:
        fields = json.loads(line)
    except ValueError as error:
        return Record(number, "", {}, f"expected JSON, got {_short(line)} ({error})")
    if not isinstance(fields, dict) or not isinstance(fields.get(column), str):
        return Record(
            number, "", {}, f"expected an object with text {column!r}, got {_short(line)}"
        )
    return Record(number, fields[column], fields)


def _rows(text: str, column: str) -> list[Record]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    records, line = [], 0
    try:
        names = rows.fieldnames or []
        if column not in names:
            raise ValueError(f"expected a column {column!r}, got {names}; name it with --column")
        line = rows.line_num
        for row in rows:
            records.append(_row(line + 1, row, column))
            line = rows.line_num
    except csv.Error as error:
        records.append(Record(line + 1, "", {}, f"expected CSV from here on ({error})"))
    return records


def _row(line: int, row: dict[str | None, Any], column: str) -> Record:
    if None in row or None in row.values():
        got = sum(value is not None for name, value in row.items() if name is not None)
        got += len(row.get(None, []))
        return Record(line, "", {}, f"expected {len(row.keys() - {None})} fields, got {got}")
    return Record(line, row[column], {str(name): value for name, value in row.items()})


def _checked(record: Record) -> Record:
    if record.problem is not None:
        return record
    if not _is_unicode(record.text) or not _is_unicode(str(record.fields)):
        return record._replace(problem=f"expected UTF-8, got {_short(record.text)}")
    return record


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def write_answers(
    file: TextIO, kind: str, records: Sequence[Record], probabilities: Sequence[float]
) -> None:
    """Every record with its probability and its label; of text files as a line to read."""
    if kind == "csv":
        names = list(records[0].fields) if records else []
        writer = csv.DictWriter(file, [*names, *_answer(0.0)], lineterminator="\n")
        writer.writeheader()
        for record, share in zip(records, probabilities):
            writer.writerow(record.fields | _answer(share))
        return
    for record, share in zip(records, probabilities):
        answer = _answer(share)
        if kind == "jsonl":
            file.write(json.dumps(record.fields | answer, ensure_ascii=False) + "\n")
        else:
            file.write(f"{share:.4f}  {answer['label']}  {record.text}\n")


def _answer(share: float) -> dict[str, Any]:
    label = "positive" if share > 0.5 else "negative"
    return {"probability": round(share, 6), "label": label}
