"""Test that the benchmarks run and print their tables, at tiny sizes. Figures are not judged."""

import re
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import memory, speed, training
from benchmarks.picture import draw
from benchmarks.shapes import FAMILIES, SHAPES
from benchmarks.table import Row
from benchmarks.timing import matrix_peak
from seqcells.lab.text import imdb

ROOT = Path(__file__).parents[2]
MEMORY = """
from dataclasses import replace
from benchmarks import memory
memory.NAMES, memory.GATES = ("ragged",), {"LSTM": 4}
memory.SHAPES = {"ragged": replace(memory.SHAPES["ragged"], steps=9, batch=2, lengths=(9, 4))}
memory.main(["--steps", "1", "--threads", "1"])
"""


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def tiny(shape):
    lengths = None if shape.lengths is None else (4, 9) if shape.name == "unsorted" else (9, 4)
    return replace(shape, steps=9, batch=2, features=3, hidden=5, lengths=lengths)


@pytest.fixture
def picture(monkeypatch, tmp_path):
    """Make the speed benchmark tiny; return the path of its picture."""
    picture = tmp_path / "speed.svg"
    monkeypatch.setattr(speed, "FAMILIES", [[tiny(shape) for shape in f] for f in FAMILIES])
    monkeypatch.setattr(speed, "PICTURE", picture)
    monkeypatch.setattr(speed, "matrix_peak", lambda: matrix_peak(size=64))
    return picture


def rows_of(printed):
    """Return the cells of the rows of the first table."""
    lines = printed.partition("|---")[2].partition("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.slow
def test_speed(picture, capsys):
    speed.main(["--rounds", "1", "--threads", "1"])
    printed = capsys.readouterr().out
    rows = rows_of(printed)
    assert len(rows) == len(SHAPES) * 3 * 2
    for row in rows:
        assert float(row[5]) > 0
        assert max(float(row[6]), float(row[7])) < 1e-5
    assert len(re.findall(r"^\| (?:RNN|GRU|LSTM) \| (?:inference|training) \|", printed, re.M)) == 6
    assert "Smallest ratio: " in printed
    assert printed.splitlines()[-1] == f"Picture: {picture}"
    assert "<svg" in picture.read_text()


def test_speed_with_only_draws_no_picture(picture, capsys):
    speed.main(["--rounds", "1", "--threads", "1", "--only", "unsort"])
    assert len(rows_of(capsys.readouterr().out)) == 6
    assert not picture.exists()
    with pytest.raises(SystemExit):
        speed.main(["--only", "nothing"])
    assert "two layers" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        speed.main(["--rounds", "0"])
    assert "at least 1, got '0'" in capsys.readouterr().err


def test_same_rows_make_the_same_picture(tmp_path):
    rows = [
        Row(shape, cell, train, 2.0, 1.0 + len(cell), 0.0, 0.0)
        for shape in SHAPES.values()
        for cell in ("RNN", "LSTM", "GRU")
        for train in (False, True)
    ]
    for name in ("one.svg", "two.svg"):
        draw(rows, tmp_path / name, "a machine")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_ragged_lengths_match_imdb():
    """The mean of the 25,000 reviews is 231.3 tokens when cut at 400."""
    lengths = SHAPES["ragged"].lengths
    assert abs(statistics.mean(lengths) - 231.3) < 3
    assert max(lengths) == SHAPES["ragged"].steps
    assert sorted(SHAPES["unsorted"].lengths, reverse=True) == list(lengths)


def test_operations_are_counted():
    """Expect 2 N G H (I + H) for each layer and direction."""
    small = 2 * 200 * 32 * 4 * 128
    assert SHAPES["small"].operations("LSTM") == small * (100 + 128)
    assert SHAPES["bidirectional"].operations("LSTM") == 2 * small * (100 + 128)
    assert SHAPES["two layers"].operations("LSTM") == small * (100 + 128 + 128 + 128)


def test_training(monkeypatch, tmp_path, capsys):
    counts = {"train/pos": 20, "train/neg": 20}
    monkeypatch.setattr(imdb, "COUNTS", counts)
    for folder, count in counts.items():
        (tmp_path / folder).mkdir(parents=True)
        for number in range(count):
            text = f"a film {'good ' * (number + 1)} or {folder[6:]}"
            (tmp_path / folder / f"{number}_7.txt").write_text(text)
        films = "".join(f"http://www.imdb.com/title/tt{n:07}/usercomments\n" for n in range(count))
        (tmp_path / f"train/urls_{folder[6:]}.txt").write_text(films)
    training.main([str(tmp_path), "--batches", "1", "--threads", "1"])
    rows = rows_of(capsys.readouterr().out)
    assert [row[0] for row in rows] == list(training.SIDES)
    assert all(float(row[3]) > 0 for row in rows)
    assert rows[0][4] == rows[1][4]  # the loss


def test_memory_of_one_layer():
    shape = tiny(SHAPES["ragged"])
    for library in ("torch.nn", "seqcells"):
        assert memory.grow(library, "LSTM", shape, True, steps=1, threads=1) >= 0


@pytest.mark.slow
def test_memory_prints_a_row_per_mode():
    run = subprocess.run(
        [sys.executable, "-c", MEMORY], cwd=ROOT, capture_output=True, text=True, check=True
    )
    rows = rows_of(run.stdout)
    assert [row[2] for row in rows] == ["inference", "training"]
    assert all(float(row[5]) > 0 for row in rows)
