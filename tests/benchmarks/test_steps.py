"""Test that the benchmark of short calls compares the same computation and prints its tables."""

import re

import pytest
import torch
from test_benchmarks import rows_of
from torch.testing import assert_close

from benchmarks import steps

TINY = ({"B=3": 3}, {"H=5": 5})


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setattr(steps, "AXES", (*steps.AXES[:4], *TINY))
    monkeypatch.setattr(steps, "WARM_UP", 1)
    monkeypatch.setattr(steps, "BURST", 1e-6)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_every_row_and_the_summary(capsys):
    steps.main(["--rounds", "1", "--threads", "1"])
    printed = capsys.readouterr().out
    rows = rows_of(printed)
    assert len(rows) == 2 * 3 * (1 + 2 + 2)
    for _, mode, batch, hidden, theirs, ours, ratio in rows:
        assert mode in ("inference", "training")
        assert (batch, hidden) == ("3", "5")
        assert all(re.fullmatch(r"\d+\.\d", taken) for taken in (theirs, ours))
        assert re.fullmatch(r"\d+\.\d\d", ratio)
    summary = rows_of(printed.partition("\n\n")[2].partition("\n\n")[2])
    kinds = [(kind, mode) for kind in steps.STEPS for mode in ("inference", "training")]
    assert [(row[0], row[1]) for row in summary] == kinds
    assert [int(row[3]) for row in summary] == [3, 3, 6, 6, 6, 6]
    assert f"torch {torch.__version__}" in printed.partition("\n")[0]
    assert "`python -m benchmarks.steps --rounds 1 --threads 1`" in printed.partition("\n")[0]


def test_words_select_rows(monkeypatch, capsys):
    assert {case.kind for case in steps.choose(["L=2"], quick=False)} == {steps.ONE, steps.TEN}
    (case,) = steps.choose(["cell", "lstm", "training"], quick=True)
    assert str(case) == "LSTMCell, B=3, H=5, training"
    for words, message in (("cell,L=2", "leave some rows"), ("B=4", "got 'B=4'")):
        with pytest.raises(SystemExit):
            steps.main(["--only", words])
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["bfloat16", "autocast"])
def test_reduced_precision(monkeypatch, precision):
    (case,) = steps.choose(["cell", "lstm", "inference"], quick=True, precision=precision)
    dtypes, cell_call = [], steps.call

    def call(module, case):
        run = cell_call(module, case)
        return lambda: dtypes.extend(part.dtype for part in run()) or dtypes

    monkeypatch.setattr(steps, "call", call)
    row = steps.measure(case, rounds=1, tick=lambda: None)
    assert row.ratio > 0
    assert set(dtypes) == {steps.PRECISIONS[precision]}
    assert torch.is_autocast_enabled("cpu") is False


def tensors(result):
    """Return the tensors of a state, or of an output with its state."""
    if isinstance(result, torch.Tensor):
        return [result]
    return [tensor for part in result for tensor in tensors(part)]


@pytest.mark.parametrize("case", steps.choose(["B=8", "H=64"], quick=False), ids=str)
def test_both_sides_compute_the_same(case):
    results = []
    for module in steps.modules(case).values():
        result = tensors(steps.call(module, case)())
        gradients = [parameter.grad for parameter in module.parameters()]
        assert all((gradient is not None) == case.train for gradient in gradients)
        results.append([result, gradients])
    theirs, ours = results
    assert_close(ours, theirs)
