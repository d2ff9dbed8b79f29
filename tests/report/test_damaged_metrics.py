"""Damaged metrics of a run: one line that names the file."""

import json
import re
import shutil

import pytest

from seqcells.lab.cli import main
from seqcells.lab.training import Run

EPOCH = json.dumps(
    {"epoch": 1, "train_loss": 1.0, "validation_loss": 1.0, "gradient_norm": 1.0}
    | {"learning_rate": 0.1, "tokens_per_second": 1.0, "seconds": 1.0}
)
RESULT = {"test_loss": 1.0, "validation_loss": 1.0, "best_epoch": 1, "epochs": 1, "parameters": 9}
RESULT |= {"tokens_per_second": 1.0, "train_seconds": 1.0, "total_seconds": 1.0, "device": "cpu"}
RESULT |= {"threads": 1, "processes": 1, "torch": "2"}
CONTENTS = {
    "metrics.json": {
        "": "JSON",
        "{": "JSON",
        "[]": "a JSON object .* got list",
        "{}": "a finite number for test_loss .* got no such metric",
        json.dumps(RESULT | {"best_epoch": "one"}): "for best_epoch .* got 'one'",
        json.dumps(RESULT | {"best_epoch": True}): "for best_epoch .* got True",
        json.dumps(RESULT | {"torch": 2}): "a string for torch .* got 2",
        json.dumps(RESULT | {"test_accuracy": None}): "for test_accuracy .* got None",
    },
    "metrics.jsonl": {
        "": "metrics of epochs .* got none",
        EPOCH + "\n" + EPOCH[:40]: "JSON in .* line 2",
        "3": "a JSON object .* line 1, got int",
        EPOCH.replace("gradient_norm", "norm"): "gradient_norm .* line 1, got no such metric",
        EPOCH.replace('"train_loss": 1.0', '"train_loss": "low"'): "train_loss .* got 'low'",
        EPOCH.replace('"train_loss": 1.0', '"train_loss": NaN'): "train_loss .* got nan",
        EPOCH + "\n" + EPOCH.replace("train_loss", "train_speed"): "line 2.* train_loss, train_spe",
    },
}
CASES = [(name, *case) for name, contents in CONTENTS.items() for case in contents.items()]


@pytest.fixture
def folder(make_run, tmp_path):
    return shutil.copytree(make_run("adding", task="adding").folder, tmp_path / "run")


@pytest.mark.parametrize(("name", "content", "message"), CASES)
def test_errors_name_the_file(folder, tmp_path, capfd, name, content, message):
    (folder / name).write_text(content)
    capfd.readouterr()
    assert main(["report", str(folder), "--output", str(tmp_path / "page.html")]) == 2
    error = capfd.readouterr().err
    assert error.startswith("error: expected ")
    assert error.count("\n") == 1
    assert str(folder / name) in error
    assert re.search(message, error)
    assert not (tmp_path / "page.html").exists()


def test_bytes_that_are_no_text(folder, capfd):
    (folder / "metrics.json").write_bytes(b"\xff\xfe")
    capfd.readouterr()
    assert main(["compare", str(folder)]) == 2
    assert f"expected JSON in UTF-8 in {folder / 'metrics.json'}" in capfd.readouterr().err


def test_unchanged_contents_are_valid(folder):
    """The contents above are each one change away from valid ones."""
    (folder / "metrics.json").write_text(json.dumps(RESULT))
    (folder / "metrics.jsonl").write_text(EPOCH)
    assert Run.open(folder).read_result() == RESULT
    assert Run.open(folder).read_epochs() == [json.loads(EPOCH)]
