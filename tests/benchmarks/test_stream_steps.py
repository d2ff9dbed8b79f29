"""Test that the engines of the benchmark of streams compute the same, and its tables."""

import re
import shutil

import pytest
import torch
from test_benchmarks import rows_of

from benchmarks import generated_c, streams

pytest.importorskip("onnxruntime")
CASES = [streams.Case(cell, layers, 5) for cell in ("LSTM", "GRU") for layers in (1, 2)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_engines_carry_the_same_state(case):
    results = {
        name: [torch.as_tensor(step(number)).flatten() for number in (0, 1, 5)]
        for name, step in ((name, make(case)) for name, make in streams.ENGINES.items())
    }
    expected = results.pop("nn.*")
    for name, outputs in results.items():
        for found, output in zip(outputs, expected):
            torch.testing.assert_close(found, output, msg=name)
    assert not torch.equal(expected[0], expected[1])


def test_tables(monkeypatch, capsys):
    monkeypatch.setattr(streams, "TURN", 10)
    monkeypatch.setattr(streams, "added_memory", int_of_name)
    monkeypatch.setattr(streams, "ProcessPoolExecutor", Here)
    threads = torch.get_num_threads()
    streams.main(["--only", "lstm,L=1,H=16,H=40", "--turns", "2"])
    torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert f"torch {torch.__version__}; 20 steps per figure" in printed
    first, second = printed.partition("\n\n")[2].split("\n\n")
    rows = rows_of(first)
    assert [row[:3] for row in rows] == [["LSTM", "1", "16"], ["LSTM", "1", "40"]]
    for row in rows:
        assert all(re.fullmatch(r"\d+\.\d / \d+\.\d", figure) for figure in row[3:-1])
        assert re.fullmatch(r"\d+\.\d", row[-1])
    assert [row[0] for row in rows_of(second)] == list(streams.ENGINES)


def int_of_name(name, case):
    assert case == streams.LARGEST
    return len(name) * 10**6


class Here:
    """Run in this process what an executor would run in another one."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, function, *arguments):
        result = function(*arguments)
        return type("Future", (), {"result": lambda self: result})()


def test_generated_c(monkeypatch, capsys):
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    monkeypatch.setattr(generated_c, "SIZES", (5,))
    monkeypatch.setattr("benchmarks.timing.SHORTEST", 1e-6)
    threads = torch.get_num_threads()
    generated_c.main(["--rounds", "1"])
    torch.set_num_threads(threads)
    rows = rows_of(capsys.readouterr().out)
    assert [row[:2] for row in rows] == [["LSTM", "5"], ["GRU", "5"]]
    for row in rows:
        assert all(re.fullmatch(r"\d+\.\d\d", figure) for figure in row[2:])
