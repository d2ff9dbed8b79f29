"""Read texts from files and write predictions in the same format."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple, TextIO

KINDS = ("txt", "csv", "jsonl")


class Record(NamedTuple):
    """One text of a file, or a problem if it cannot be read."""

    line: int  # first line of the record
    text: str
    fields: dict[str, Any]  # all fields, text included
    problem: str | None = None


def read_records(content: bytes, kind: str, column: str) -> list[Record]:
    """Read UTF-8 records: one text per line, CSV with a header, or one JSON object per line.

    `column` names the text in CSV and JSON. Records that cannot be read have a problem.

    Raises:
        ValueError: `kind` is not `txt`, `csv` or `jsonl`, or a CSV file has no column `column`.
    """
    if kind not in KINDS:
        raise ValueError(f"expected a file of kind {', '.join(KINDS)}, got {kind!r}")
    # Invalid UTF-8 becomes lone surrogates, which `_validate` finds.
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    if kind == "csv":
        records = _parse_csv(text, column)
    else:
        parse = _parse_json if kind == "jsonl" else _parse_line
        lines = enumerate(io.StringIO(text, newline=None), 1)
        records = [parse(number, line.rstrip("\n"), column) for number, line in lines]
    return [_validate(record) for record in records]


def _parse_line(number: int, line: str, _: str) -> Record:
    return Record(number, line, {})


def _parse_json(number: int, line: str, column: str) -> Record:
    try:
        fields = json.loads(line)
    except ValueError as error:
        return Record(number, "", {}, f"expected JSON, got {_short(line)} ({error})")
    if not isinstance(fields, dict) or not isinstance(fields.get(column), str):
        return Record(
            number, "", {}, f"expected an object with a string {column!r}, got {_short(line)}"
        )
    return Record(number, fields[column], fields)


def _parse_csv(text: str, column: str) -> list[Record]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    records, line = [], 0
    try:
        names = rows.fieldnames or []
        if column not in names:
            raise ValueError(f"expected a column {column!r}, got {names}; name it with --column")
        line = rows.line_num
        for row in rows:
            records.append(_parse_row(line + 1, row, column))
            line = rows.line_num
    except csv.Error as error:
        records.append(Record(line + 1, "", {}, f"expected valid CSV, got an error here ({error})"))
    return records


def _parse_row(line: int, row: dict[str | None, Any], column: str) -> Record:
    if None in row or None in row.values():
        got = sum(value is not None for name, value in row.items() if name is not None)
        got += len(row.get(None, []))
        return Record(line, "", {}, f"expected {len(row.keys() - {None})} fields, got {got}")
    return Record(line, row[column], {str(name): value for name, value in row.items()})


def _validate(record: Record) -> Record:
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
    """Write records with probability and label; `txt` has one formatted line per record."""
    if kind == "csv":
        names = list(records[0].fields) if records else []
        writer = csv.DictWriter(file, [*names, *_answer(0.0)], lineterminator="\n")
        writer.writeheader()
        for record, probability in zip(records, probabilities):
            writer.writerow(record.fields | _answer(probability))
        return
    for record, probability in zip(records, probabilities):
        answer = _answer(probability)
        if kind == "jsonl":
            file.write(json.dumps(record.fields | answer, ensure_ascii=False) + "\n")
        else:
            file.write(f"{probability:.4f}  {answer['label']}  {record.text}\n")


def _answer(probability: float) -> dict[str, Any]:
    label = "positive" if probability > 0.5 else "negative"
    return {"probability": round(probability, 6), "label": label}
