"""`seqcells predict` with files and standard input."""

import csv
import io
import json

import pytest

import seqcells
from seqcells.lab.cli import main

TEXTS = ["It is good, not bad.", "Bad!", "A film of many words, and all of them are of no use."]


def predictions(run, texts):
    return [f"{probability:.4f}" for probability in seqcells.load(run).predict(texts).tolist()]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_txt_has_one_text_per_line(make_run, tmp_path, capfd, end):
    run = make_run()
    file = write(tmp_path / "texts.txt", "\ufeff" + end.join(TEXTS) + end)
    assert main(["predict", run, "--file", file]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == predictions(run, TEXTS)
    assert [line.split("  ")[2] for line in lines] == TEXTS


def test_csv_gets_columns(make_run, tmp_path, capfd):
    run = make_run()
    rows = [["id", "review"], *[[str(n), text + '\n"more"'] for n, text in enumerate(TEXTS)]]
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    file = write(tmp_path / "texts.csv", buffer.getvalue())
    output = tmp_path / "answers.csv"
    arguments = ["predict", run, "--file", file, "--column", "review", "--output", str(output)]
    assert main(arguments) == 0
    assert capfd.readouterr().out == ""
    answers = list(csv.DictReader(io.StringIO(output.read_text(), newline="")))
    assert [[answer["id"], answer["review"]] for answer in answers] == rows[1:]
    probabilities = [f"{float(answer['probability']):.4f}" for answer in answers]
    assert probabilities == predictions(run, [row[1] for row in rows[1:]])
    for answer in answers:
        assert answer["label"] == ("positive" if float(answer["probability"]) > 0.5 else "negative")


def test_jsonl_gets_fields(make_run, monkeypatch, capfd):
    run = make_run()
    objects = [{"text": text, "stars": n} for n, text in enumerate(TEXTS)]
    content = "".join(json.dumps(item) + "\n" for item in objects).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert main(["predict", run, "--file", "-", "--format", "jsonl"]) == 0
    answers = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [{key: answer[key] for key in ("text", "stars")} for answer in answers] == objects
    assert [f"{answer['probability']:.4f}" for answer in answers] == predictions(run, TEXTS)


INVALID = {
    "txt": (b"good\n\nvery b\xe4d\n ! \nfine film", [2, 3], ["good", " ! ", "fine film"]),
    "csv": (
        b"text,id\ngood,1\nno id\nvery b\xe4d,2\n,3\nbad,4,5\nfine film,6\n",
        [3, 4, 5, 6],
        ["good", "fine film"],
    ),
    "jsonl": (
        b'{"text": "good"}\n{"text"\n{"body": "bad"}\n["text"]\n{"text": 3}\n'
        b'{"text": "b\xe4d"}\n{"text": ""}\n{"text": "\\ud800"}\n\n{"text": "fine film"}\n',
        [2, 3, 4, 5, 6, 7, 8, 9],
        ["good", "fine film"],
    ),
}


@pytest.mark.parametrize("kind", INVALID)
def test_invalid_records_are_listed_and_the_others_predicted(make_run, tmp_path, capfd, kind):
    run = make_run()
    content, invalid, valid = INVALID[kind]
    file = write(tmp_path / f"texts.{kind}", content)
    assert main(["predict", run, "--file", file]) == 2
    captured = capfd.readouterr()
    errors = captured.err.splitlines()
    assert [line.split(": ")[0] for line in errors[:-1]] == [f"{file}:{n}" for n in invalid]
    assert all("expected" in line for line in errors[:-1])
    total = len(invalid) + len(valid)
    assert f"expected {total} valid texts in {file}, got {len(invalid)} invalid" in errors[-1]
    answered = [line for line in captured.out.splitlines() if not line.startswith("text,")]
    assert len(answered) == len(valid)
    assert all(text in line for text, line in zip(valid, answered))


def test_csv_is_read_up_to_a_syntax_error(make_run, tmp_path, capfd):
    file = write(tmp_path / "texts.csv", 'text\ngood\n"bad\nand never closed\n')
    assert main(["predict", make_run(), "--file", file]) == 2
    captured = capfd.readouterr()
    assert "good," in captured.out
    assert f"{file}:3: expected valid CSV, got an error here" in captured.err


class Terminal(io.TextIOWrapper):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ([], "reading texts, one per line, from standard input; end with Ctrl-D"),
        (["--explain"], "reading texts, one per line, from standard input; end with Ctrl-D"),
        (["--format", "csv"], "reading csv from standard input; end with Ctrl-D"),
    ],
)
def test_a_terminal_is_announced(make_run, monkeypatch, capfd, options, line):
    run = make_run()
    monkeypatch.setattr("sys.stdin", Terminal(io.BytesIO(b"text\nfine\n")))
    assert main(["predict", run, *options]) == 0
    output, error = capfd.readouterr()
    assert error == line + "\n"
    assert "fine" in output


def test_arguments_need_no_terminal(make_run, monkeypatch, capfd):
    monkeypatch.setattr("sys.stdin", Terminal(io.BytesIO()))
    assert main(["predict", make_run(), "good", "--explain"]) == 0
    assert capfd.readouterr().err == ""


def test_a_terminal_is_announced_for_other_tasks(make_run, monkeypatch, capfd):
    run = make_run("capitals")
    monkeypatch.setattr("sys.stdin", Terminal(io.BytesIO(b"fine\n")))
    assert main(["predict", run]) == 0
    output, error = capfd.readouterr()
    assert output.lower() == "fine\n"
    assert error == "reading texts, one per line, from standard input; end with Ctrl-D\n"


@pytest.mark.parametrize("options", [[], ["--explain"]])
def test_empty_standard_input_raises(make_run, monkeypatch, capfd, options):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    assert main(["predict", make_run(), *options]) == 2
    output, error = capfd.readouterr()
    assert (output, error.count("\n")) == ("", 1)
    assert "expected texts" in error


def test_missing_column_error_lists_the_columns(make_run, tmp_path, capfd):
    file = write(tmp_path / "texts.csv", "id,review\n1,good\n")
    assert main(["predict", make_run(), "--file", file]) == 2
    assert "expected a column 'text', got ['id', 'review']; name it with --column" in (
        capfd.readouterr().err
    )


def test_invalid_files_raise(make_run, tmp_path, capfd):
    run = make_run()
    for arguments, message in [
        (["--file", "texts.parquet"], "expected a file with a suffix of .txt, .csv, .jsonl"),
        (["--file", str(tmp_path / "none.txt")], "none.txt"),
        (["--file", write(tmp_path / "empty.txt", "")], "expected texts in "),
        (
            ["--output", str(tmp_path / "none" / "answers.txt")],
            "--output: expected a file in a folder that exists, got ",
        ),
        (["--output", run], f"--output: expected a file in a folder that exists, got {run}"),
        (["good", "--file", "-"], "--file: expected no --file together with texts"),
        (["good", "--output", "answers.txt"], "--output: expected no --output together with texts"),
        (
            ["--explain", "good", "--file", "-"],
            "--file: expected no --file together with texts or --explain",
        ),
    ]:
        assert main(["predict", run, *arguments]) == 2
        assert message in capfd.readouterr().err


def link_to(path, how):
    """Return another path of a file."""
    other = path.with_name("other.txt")
    if how == "dot":
        return path.parent / "." / ".." / path.parent.name / path.name
    if how == "symlink":
        other.symlink_to(path)
    elif how == "hard link":
        other.hardlink_to(path)
    return other if how else path


@pytest.mark.parametrize("how", ["", "dot", "symlink", "hard link"])
def test_the_input_is_not_overwritten(make_run, tmp_path, monkeypatch, capfd, how):
    file = tmp_path / "texts.txt"
    file.write_text("good\n")
    output, run = str(link_to(file, how)), make_run()
    monkeypatch.setattr("seqcells.lab.prediction.classifier.load_best", lambda *_: 1 / 0)
    assert main(["predict", run, "--file", str(file), "--output", output]) == 2
    with file.open() as standard_input:
        monkeypatch.setattr("sys.stdin", standard_input)
        assert main(["predict", run, "--output", output]) == 2
    first, second = capfd.readouterr().err.splitlines()
    assert f"expected another file than the input, got {output}, the same file as {file}" in first
    assert "the same file as standard input" in second
    assert file.read_text() == "good\n"


def test_output_replaces_an_earlier_one(make_run, tmp_path):
    file, output, run = tmp_path / "texts.txt", tmp_path / "answers.txt", make_run()
    for text in ("good", "bad"):
        file.write_text(f"{text}\n")
        assert main(["predict", run, "--file", str(file), "--output", str(output)]) == 0
        assert output.read_text().endswith(f"  {text}\n")


def test_failed_write_keeps_the_previous_output(make_run, tmp_path, monkeypatch):
    run, output = make_run(), tmp_path / "answers.txt"
    output.write_text("before")
    file = write(tmp_path / "texts.txt", "good\n")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    assert main(["predict", run, "--file", file, "--output", str(output)]) == 2
    assert output.read_text() == "before"
    assert sorted(path.name for path in tmp_path.glob("answers*")) == ["answers.txt"]
