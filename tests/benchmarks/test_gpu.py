"""Test the GPU benchmark on the CPU at tiny sizes: every row, every answer, all counts."""

import re
from dataclasses import replace

import pytest
import torch
from test_benchmarks import rows_of

from benchmarks import contest, gpu
from benchmarks.answers import answers
from benchmarks.contest import BACKENDS, CUDNN, KERNEL, LOOP, TORCH, Result
from benchmarks.shapes import GATES
from benchmarks.timing import FEW, in_turn

TINY = ({"T=3": 3}, {"B=4": 4}, {"H=5": 5})


@pytest.fixture
def on_cpu(monkeypatch):
    """Replace our kernel by the readable loop, and cuDNN by a backend that does not exist."""
    monkeypatch.setattr(gpu, "DEVICE", "cpu")
    monkeypatch.setattr(gpu, "AXES", (*gpu.AXES[:4], *TINY))
    monkeypatch.setattr(gpu, "MATRIX", 64)
    monkeypatch.setattr(gpu, "COPY", 1 << 12)
    monkeypatch.setattr("benchmarks.timing.SHORTEST", 1e-6)
    monkeypatch.setitem(BACKENDS, KERNEL, "reference")
    monkeypatch.setitem(BACKENDS, CUDNN, "no such backend")
    monkeypatch.setattr(contest, "COMPILED_SIZES", (3, 4, 5))
    monkeypatch.setitem(contest.COMPILE, "backend", "eager")
    allowed = torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32 = allowed


@pytest.mark.usefixtures("on_cpu")
def test_a_compiled_loop_is_measured_where_rows_are_full(capsys):
    gpu.main(["--rounds", "1", "--only", "lstm,float32,inference"])
    rows = rows_of(capsys.readouterr().out)
    assert [row[0].startswith("ragged") for row in rows] == [False, True]
    for _, _, _, kernel, cudnn, _, loop, *_ in rows:
        assert float(kernel) > 0 < float(loop)
        assert cudnn == "-"
    assert [row[7] == "-" for row in rows] == [False, True]


@pytest.mark.slow
@pytest.mark.usefixtures("on_cpu")
def test_every_row_and_every_answer(capsys):
    gpu.main(["--rounds", "1"])
    printed = capsys.readouterr().out
    tables = printed.split("\n## ")[1:-1]
    assert [table.partition("\n")[0] for table in tables] == list(gpu.AXES[0].values())
    for table in tables:
        rows = rows_of(table)
        assert len(rows) == 8
        for batch, _, _, kernel, cudnn, theirs, loop, compiled, *ratios, tokens, of, moved in rows:
            assert float(kernel) > 0 < float(loop)
            assert (cudnn, ratios[1]) == ("-", "-")
            assert (theirs == "-") == (table.partition("\n")[0] not in GATES)
            assert (compiled == "-") == batch.startswith("ragged")
            assert re.fullmatch(r"[\d,]+", tokens)
            assert of.endswith("%")
            assert moved.endswith("%")
        assert "- cudnn, in 8 rows, first" in table
        assert "ValueError: backend: expected one of" in table
    summary = printed.partition("## Summary")[2]
    assert summary.count("**") == 6
    assert re.search(r"faster than torch.nn in \d+ of 24 rows", summary)
    assert re.fullmatch(r"Done: 48 rows in .* 48 figures missing\.", printed.splitlines()[-1])
    assert "TF32 off: `python -m benchmarks.gpu --rounds 1`" in printed


def test_error_without_a_gpu(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        gpu.main([])
    assert stopped.value.code == 2
    assert "NVIDIA GPU" in capsys.readouterr().err
    for argument, wrong in (("--only", "B=17"), ("--skip", "loops")):
        with pytest.raises(SystemExit):
            gpu.main([argument, wrong])
        assert f"got '{wrong}'" in capsys.readouterr().err


@pytest.mark.usefixtures("on_cpu")
def test_skipped_columns_are_not_measured(capsys):
    options = ["--only", "lstm,padded,float32,inference", "--skip", "loop,compiled loop,cudnn"]
    gpu.main(["--rounds", "1", *options])
    ((*_, kernel, cudnn, theirs, loop, compiled),) = (
        row[:8] for row in rows_of(capsys.readouterr().out)
    )
    assert float(kernel) > 0 < float(theirs)
    assert cudnn == loop == compiled == "-"


def test_words_select_rows():
    assert len(gpu.choose([], quick=False)) == 6 * 2 * 2 * 2 * 2 * 3 * 5
    some = gpu.choose(["lstm", "gru", "H=256", "ragged", "training"], quick=True)
    assert {case.cell for case in some} == {"LSTM", "GRU"}
    sizes = {(case.shape.steps, case.shape.batch, case.shape.hidden) for case in some}
    assert sizes == {(128, 64, 256)}
    assert len(some) == 2 * 2
    assert all(case.train and len(case.shape.lengths) == 64 for case in some)


def test_operations_and_bytes_are_counted():
    case = gpu.make_case("LSTM", torch.bfloat16, False, False, 10, 3, 8)
    assert case.operations == 2 * 30 * 4 * 8 * (8 + 8)
    assert case.moved == 2 * (4 * 8 * (8 + 8) + 30 * (8 + 8))
    trained = gpu.make_case("PeepholeLSTM", torch.float32, False, True, 10, 3, 8)
    assert trained.operations == 3 * case.operations
    assert trained.moved == 3 * 2 * case.moved
    ragged = gpu.make_case("LSTM", torch.bfloat16, True, False, 1024, 64, 8)
    assert ragged.operations * 1024 * 64 == 2 * sum(ragged.shape.lengths) * 512 * 1024 * 64


def result(cell, times, ragged=False, **sizes):
    case = gpu.make_case(cell, torch.float32, ragged, True, 128, 64, 128)
    return Result(replace(case, shape=replace(case.shape, **sizes)), times, {})


def lines(*results):
    return list(answers(results))


def test_answers():
    further, ragged, plain, duel, *kinds = lines(
        result("ZoneoutLSTM", {KERNEL: 1, LOOP: 12}),
        result("ZoneoutLSTM", {KERNEL: 1, LOOP: 2}, hidden=512),
        result("LSTM", {KERNEL: 2, CUDNN: 1.05, TORCH: 1}),
        result("LSTM", {KERNEL: 1, TORCH: 1.9}, ragged=True),
    )
    assert "**Yes**: over 1 rows the smallest ratio is 12.00 (ZoneoutLSTM" in further
    assert "**No**: over 1 rows the smallest ratio is 1.90" in ragged
    assert "**Yes**: over 2 rows the smallest ratio is 0.95" in plain
    assert "in 1 of 2 rows" in duel
    assert ["slower at" in kinds[0], "faster at" in kinds[1]] == [True, True]
    assert "T=128 B=64 H=128 (0.50)" in kinds[0]


def test_missing_rows_are_not_a_yes():
    further, ragged, plain, *_ = lines(
        result("LSTM", {KERNEL: 1, TORCH: 2}), result("GRU", {TORCH: 1})
    )
    assert "**Unknown**: none of 0 rows" in further
    assert "**Unknown**: none of 0 rows" in ragged
    assert "**Unknown**: over 1 rows" in plain
    assert "1 rows could not be compared" in plain


@pytest.mark.parametrize(("long", "rounds"), [(0.5, FEW), (2.0, 5)])
def test_a_long_call_runs_in_few_rounds(long, rounds):
    calls, ticks = [], []

    def clock(run, repeats):
        run()
        return 1.0

    assert in_turn([lambda: calls.append(1)], 5, lambda: ticks.append(1), clock, long) == [1.0]
    assert len(calls) == 1 + rounds  # one to estimate the time
    assert len(ticks) == 5
