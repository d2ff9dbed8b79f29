"""Test the tables and pictures of the gradient benchmark, at a tiny size."""

import re
from pathlib import Path

import pytest
from test_benchmarks import rows_of

from benchmarks import gradient_flow

STEPS = 60


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setattr(gradient_flow, "STEPS", STEPS)
    monkeypatch.setattr(gradient_flow, "ROWS", 3)
    monkeypatch.setattr(gradient_flow, "SWEEP", [0.5, 3.0])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_tables_and_pictures(folder, capsys):
    gradient_flow.main(["--output", "pictures/new"])
    printed = capsys.readouterr().out
    cells, weights, clipping = re.split(r"^(?=\|---)", printed, flags=re.MULTILINE)[1:]
    factors = {row[0]: float(row[-1]) for row in rows_of(cells)}
    assert list(factors) == list(gradient_flow.CELLS)
    assert factors["RNN"] < 0.7 < factors["LSTM, forget bias 1"] < factors["LSTM, chrono"] < 1
    assert factors["GRU"] < 0.7 < factors["GRU, chrono"] < 1
    gains = [float(row[-1]) for row in rows_of(weights)]
    assert len(gains) == len(gradient_flow.GAINS) + 1
    assert gains[0] < 0.5
    assert gains[4] > 1
    small, large = rows_of(clipping)
    assert float(large[1]) > 1e3 > float(small[1])
    assert float(large[2]) == gradient_flow.MAX_NORM
    assert float(large[3]) < 0.1
    paths = [f"pictures/new/gradients_{name}.svg" for name in ("cells", "weights", "clipping")]
    assert printed.splitlines()[-1] == f"Pictures: {', '.join(paths)}"
    assert sorted(paths) == sorted(map(str, Path("pictures").rglob("*.svg")))
    assert [path.name for path in folder.iterdir()] == ["pictures"]


def test_the_bound_holds(folder):
    for gain in (0.5, 1.0, 2.0):
        assert (gradient_flow.flow(gradient_flow.plain(gain)) <= gradient_flow.ceiling(gain)).all()
