"""Test the engines, tables and summary of the benchmark of precision. Times are not judged."""

import re

import pytest
import torch
from test_benchmarks import rows_of

from benchmarks import engines, instructions, precision
from benchmarks.engines import ONNX_INT8, PEEPHOLE, TORCH_INT8, Case

pytest.importorskip("onnxruntime")
# Largest and smallest error allowed, by a word in the name of the engine.
BOUNDS = {"float32": (1e-6, 0), "int8": (0.1, 1e-3), "": (0.02, 5e-4)}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setattr(engines, "STEPS", 5)
    monkeypatch.setattr(precision, "PAUSE", 0)
    monkeypatch.setattr("benchmarks.timing.SHORTEST", 1e-6)
    monkeypatch.setattr(instructions, "STEPS", 20_000)
    monkeypatch.setattr(instructions, "LOOPS", 5)
    threads, engine = torch.get_num_threads(), torch.backends.quantized.engine
    yield
    torch.set_num_threads(threads)
    torch.backends.quantized.engine = engine


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(precision, "AXES", (*precision.AXES[:2], {"B=2": 2}, {"H=16": 16}))


def bounds_of(name):
    return next(bounds for word, bounds in BOUNDS.items() if word in name)


def test_tables(small, capsys):
    precision.main(["--rounds", "1", "--threads", "1"])
    printed = capsys.readouterr().out
    assert printed.endswith("\n6 cases measured.\n")
    inference, training = printed.split("\nTraining:\n")
    for text, train in ((inference, False), (training, True)):
        rows = rows_of(text)
        expected = [
            (cell, name)
            for cell in ("LSTM", "GRU", PEEPHOLE)
            for name in engines.engines_of(Case(train, cell, 2, 16))
        ]
        assert [tuple(row[:2]) for row in rows] == expected
        for cell, name, batch, units, *figures in rows:
            assert (batch, units) == ("2", "16")
            if (cell, name) in (("GRU", ONNX_INT8), (PEEPHOLE, TORCH_INT8)):
                assert set(figures) == {"n/a"}
                continue
            taken, own, others, size, *errors = figures
            assert float(taken) > 0
            assert own == "1.00" if name == precision.BASE else float(own) > 0
            assert (others == "") == (name not in engines.COUNTERPARTS)
            assert int(size.replace(",", "")) > 0
            assert len(errors) == 1 + train
            most, least = bounds_of(name)
            assert all(least <= float(error) <= most for error in errors), (cell, name)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", PEEPHOLE])
def test_sizes(cell):
    """Expect the size of weights and biases in the precision, with scales of int8 rows."""
    made = engines.engines_of(Case(False, cell, 1, 16))
    sizes = {name: make(Case(False, cell, 1, 16)).size for name, make in made.items() if make}
    rows = 16 * (3 if cell == "GRU" else 4)
    weights, biases = 2 * 16 * rows, 2 * rows + (3 * 16 if cell == PEEPHOLE else 0)
    assert sizes[precision.BASE] == 4 * (weights + biases)
    assert sizes["seqcells bfloat16"] == 2 * (weights + biases)
    assert sizes["seqcells quantize(bfloat16)"] == 2 * weights + 4 * biases
    assert sizes["seqcells quantize(int8)"] == weights + 4 * 2 * rows + 4 * biases
    if cell != PEEPHOLE:
        assert sizes[TORCH_INT8] == weights + 4 * biases
    if cell != "GRU":
        assert weights < sizes[ONNX_INT8] < sizes[engines.ONNX]


def result(times, errors, batch=32, units=256):
    case = Case(False, "LSTM", batch, units)
    sizes = dict.fromkeys(times, 1)
    return precision.Result(case, tuple(times), times, sizes, errors)


def test_summary_lists_what_was_lost():
    """Expect the median of the ratios of single rounds, not the ratio of the medians."""
    ours = "seqcells quantize(int8)"
    times = {precision.BASE: [2.0, 8.0, 30.0], ours: [1.0, 9.0, 10.0], TORCH_INT8: [0.5, 9.0, 5.0]}
    errors = {precision.BASE: (1e-7,), ours: (0.02,), TORCH_INT8: (0.01,)}
    lines = list(precision.summary([result(times, errors)]))
    where = "LSTM, inference, B=32, H=256"
    assert lines[0].startswith("- seqcells slower in bfloat16 or int8: in 1 of 1 comparisons.")
    assert lines[1] == f"  - {where}: {ours} against {TORCH_INT8}: 0.50"
    assert lines[2].startswith("- Error of our int8 larger: in 1 of 1 comparisons.")
    assert lines[3] == f"  - {where}: against {TORCH_INT8}: 0.50"
    assert lines[4].endswith(f": 2.00 ({where}).")
    assert lines[5].endswith("(inference, B=1, H=512): not measured.")


def test_summary_of_rows_that_were_won():
    ours = "seqcells quantize(int8)"
    times = {precision.BASE: [4.0], ours: [1.0], ONNX_INT8: [2.0]}
    errors = {precision.BASE: (1e-7,), ours: (0.01,), ONNX_INT8: (0.03,)}
    lines = list(precision.summary([result(times, errors, batch=1, units=512)]))
    assert "in 0 of 1 comparisons. Smallest ratio, theirs / ours: 2.00" in lines[0]
    assert "in 0 of 1 comparisons. Smallest ratio, theirs / ours: 3.00" in lines[1]
    assert lines[2].endswith("not measured.")
    assert lines[3].endswith(": 4.00 (LSTM, inference, B=1, H=512).")


def test_only_takes_known_words(capsys):
    with pytest.raises(SystemExit):
        precision.main(["--only", "H=7"])
    assert "peephole" in capsys.readouterr().err


def test_rates_of_instructions():
    """Expect a row per instruction, or the reason why there is none."""
    lines = list(instructions.report())
    if instructions.missing_flags():
        assert "the processor lacks" in lines[0]
    elif len(lines) > 1:
        for row in rows_of("\n".join(lines)):
            assert all(re.fullmatch(r"\d+(\.\d\d)?", figure) for figure in row[2:])
            assert float(row[5]) > 0
    else:
        assert "no C compiler" in lines[0] or "failed" in lines[0]


def test_reasons_without_rates(monkeypatch, tmp_path):
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(instructions, "CPU_INFO", info)

    def reason():
        (line,) = instructions.report()
        return line.partition("not measured, ")[2]

    assert reason() == "the processor lacks avx512f, avx512_bf16, avx512_vnni."
    info.write_text("flags : avx512f avx512_vnni\n")
    assert reason() == "the processor lacks avx512_bf16."
    info.write_text("flags : avx512f avx512_bf16 avx512_vnni\n")
    monkeypatch.setenv("CC", "no-such-compiler")
    assert reason() == "no C compiler: no-such-compiler was not found; set CC."
    monkeypatch.setenv("CC", "false")
    assert reason() == "false -O2 rate.c -o rate failed: no message."
