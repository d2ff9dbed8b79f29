"""Test that the benchmark of variants compares the same equations, and its tables."""

import re
from dataclasses import replace

import pytest
import torch
from test_benchmarks import rows_of
from torch.testing import assert_close

from benchmarks import torchrecurrent_layers, variants
from benchmarks.shapes import SHAPES
from seqcells import GRUCell, LSTMCell

TINY = replace(SHAPES["small"], steps=6, batch=3, features=4, hidden=5)
BY_NAME = {variant.name: variant for variant in variants.VARIANTS}


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQCELLS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def results(run):
    """Return the outputs, and the gradients of the inputs and of the input weights."""
    outputs = run()
    weights = dict(run.module.named_parameters())
    (weight,) = (value.grad for name, value in weights.items() if name.endswith("weight_ih"))
    return outputs.detach(), run.inputs.grad, weight.clone()


@pytest.mark.parametrize("name", BY_NAME)
def test_a_row_compares_the_same_equations(name, monkeypatch):
    """Random masks differ between the sides, so modifiers drop nothing here."""
    if (modifier := BY_NAME[name].modifier) is not None:
        monkeypatch.setitem(modifier.keywords, "share", 0.0)
        monkeypatch.setattr(variants, "SHARE", 0.0)
    runs = variants.sides(BY_NAME[name], TINY, torch.float64)
    ours = results(runs["seqcells"])
    assert_close(results(runs["loop"]), ours)
    if BY_NAME[name].theirs is None:
        assert runs["torchrecurrent"] is None
        return
    pytest.importorskip("torchrecurrent")
    theirs = results(runs["torchrecurrent"])
    if (order := BY_NAME[name].theirs.order) != ():
        blocks = ours[2].chunk(len(order))
        ours = *ours[:2], torch.cat([blocks[gate] for gate in order])
    if BY_NAME[name].theirs.note:
        assert not torch.allclose(theirs[0], ours[0])
    else:
        assert_close(theirs, ours)


def test_plain_cells_and_a_user_cell():
    own_ones = {"a user's own LSTM", "the same, compiled"}
    assert {name for name, kind in BY_NAME.items() if kind.twin and not kind.modifier} == {
        "RNN",
        "GRU",
        "LSTM",
        *own_ones,
    }
    plain = [variants.sides(BY_NAME[name], TINY)["plain"] for name in ("GRU", "LSTM")]
    assert [type(run.module.cell) for run in plain] == [GRUCell, LSTMCell]
    own = variants.sides(BY_NAME["a user's own LSTM"], TINY)
    assert own["seqcells"].module.cell.kernel is None
    own["seqcells"].module.cell.load_state_dict(own["plain"].module.cell.state_dict())
    assert_close(own["seqcells"](), own["plain"]())


@pytest.fixture
def _tiny(monkeypatch):
    monkeypatch.setattr(variants, "SHAPES", dict.fromkeys(variants.NAMES, TINY))
    monkeypatch.setattr("benchmarks.timing.SHORTEST", 1e-6)


@pytest.mark.usefixtures("_tiny")
def test_the_table(capsys):
    pytest.importorskip("torchrecurrent")
    variants.main(["--rounds", "1", "--threads", "1"])
    printed = capsys.readouterr().out
    rows = rows_of(printed)
    assert [row[1] for row in rows] == 2 * list(BY_NAME)
    for row in rows:
        assert all(re.fullmatch(r"\d+\.\d\d", figure) for figure in row[3:6])
        variant = BY_NAME[row[1]]
        assert (row[6] == "none") == (variant.theirs is None)
        assert row[6].endswith("*") == bool(variant.theirs and variant.theirs.note)
    assert r"\* MGU: torchrecurrent's gate acts before" in printed


@pytest.mark.usefixtures("_tiny")
def test_without_torchrecurrent(monkeypatch, capsys):
    monkeypatch.setattr(torchrecurrent_layers, "torchrecurrent", None)
    few = [BY_NAME["GRU"], BY_NAME["UGRNN"]]
    monkeypatch.setattr(variants, "VARIANTS", few)
    variants.main(["--rounds", "1", "--threads", "1"])
    printed = capsys.readouterr().out
    assert [row[6] for row in rows_of(printed)] == 2 * ["none", "not installed"]
    assert "pip install torchrecurrent" in printed
