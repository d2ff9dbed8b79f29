"""Test that the benchmark of recent cells compares the same equations, and its table."""

import pytest
import torch
from test_benchmarks import rows_of
from torch.testing import assert_close

from benchmarks import recent, torchrecurrent_layers
from seqcells import Recurrent


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.setattr(recent, "STEPS", 5)
    monkeypatch.setattr(recent, "ROWS", 2)
    monkeypatch.setattr(recent, "SIZE", 8)
    monkeypatch.setattr("benchmarks.timing.SHORTEST", 1e-6)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("case", recent.CASES, ids=lambda case: case.title)
def test_a_loop_has_the_equations_of_the_cell(case):
    cell, inputs = case.cell(4, 8).double(), torch.randn(6, 3, 4, dtype=torch.float64)
    expected = Recurrent(cell)(inputs)[0]
    found = recent.loop(case, case.step, cell, inputs)
    assert_close(found, expected)
    sources = list(cell.parameters())
    grads = [torch.autograd.grad(result.cos().sum(), sources) for result in (found, expected)]
    assert_close(*grads)


def table(monkeypatch, capsys, *options):
    """Run without the compiler; return the rows and what else was printed."""
    monkeypatch.setattr(torch, "compile", lambda step: step)
    recent.main(["--rounds", "1", "--threads", "1", *options])
    printed = capsys.readouterr().out
    return rows_of(printed), printed


def test_the_table(monkeypatch, capsys):
    pytest.importorskip("torchrecurrent")
    rows, _ = table(monkeypatch, capsys)
    assert [row[0] for row in rows] == [case.title for case in recent.CASES for _ in range(2)]
    for row in rows:
        assert all(float(figure) > 0 for figure in row[2:5])
        assert (row[8] == "none") == (row[0] != "multiplicative LSTM")


def test_without_torchrecurrent(monkeypatch, capsys):
    monkeypatch.setattr(torchrecurrent_layers, "torchrecurrent", None)
    rows, printed = table(monkeypatch, capsys, "--only", "rhn,multiplicative_lstm")
    assert [row[8] for row in rows] == ["not installed", "not installed", "none", "none"]
    assert "pip install torchrecurrent" in printed


def test_other_results_raise(monkeypatch, capsys):
    """A cell that does not compute the equations of the loop is not timed."""
    wrong = recent.CASES[-1]._replace(step=recent.lem)
    wrong = wrong._replace(weights=lambda cell: tuple(w * 2 for w in recent.lem_weights(cell)))
    monkeypatch.setattr(recent, "CASES", [wrong])
    with pytest.raises(RuntimeError, match="expected equal results"):
        table(monkeypatch, capsys)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*is deprecated")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_with_compiled_steps(capsys):
    recent.main(["--rounds", "1", "--threads", "1", "--only", "lem"])
    assert len(rows_of(capsys.readouterr().out)) == 2
