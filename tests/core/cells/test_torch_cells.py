"""Cells equal torch's in one step; the projected LSTM; bad input."""

import pytest
import torch
from cell_table import CELLS, CLASSIC, TORCH_CELLS, make_cell
from parity import F64, close, random, random_state, same
from torch import nn
from torch.nn.utils import parametrizations

import seqcells
from seqcells.state import map_state
from seqcells.testing import assert_parity

DTYPES = pytest.mark.parametrize("dtype", [F64, torch.float32], ids=["f64", "f32"])
BIAS = pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
TWINS = pytest.mark.parametrize("kind", TORCH_CELLS)


def twins(kind, inputs=4, hidden=5, **options):
    ours, theirs, options = CELLS[kind].cell, TORCH_CELLS[kind], CELLS[kind].options | options
    return ours(inputs, hidden, **options), theirs(inputs, hidden, **options)


@DTYPES
@BIAS
@pytest.mark.parametrize("batched", [True, False], ids=["batched", "unbatched"])
@pytest.mark.parametrize("given", [True, False], ids=["hx", "no_hx"])
@TWINS
def test_results_and_gradients_equal_torch(kind, bias, batched, given, dtype):
    ours, theirs = twins(kind, 24, 32, bias=bias, dtype=dtype)
    inputs, hx = random(8, 24, dtype=dtype), random_state(ours, 8)
    if not batched:
        inputs, hx = inputs[0], map_state(lambda part: part[0], hx)
    assert_parity(ours, theirs, inputs, hx if given else None)


@BIAS
@TWINS
def test_initial_weights_and_the_random_state_equal_torchs(kind, bias):
    torch.manual_seed(3)
    ours = CELLS[kind].cell(4, 5, bias=bias, **CELLS[kind].options)
    after_ours = torch.rand(1)
    torch.manual_seed(3)
    theirs = TORCH_CELLS[kind](4, 5, bias=bias, **CELLS[kind].options)
    assert torch.rand(1) == after_ours
    names = [name for name, _ in theirs.named_parameters()]
    assert [name for name, _ in ours.named_parameters()] == names
    assert list(ours.state_dict()) == list(theirs.state_dict()) == names
    for name in names:
        assert torch.equal(getattr(ours, name), getattr(theirs, name))


@TWINS
def test_spectral_norm_in_training_equals_torchs(kind):
    ours, theirs = twins(kind, dtype=F64)
    theirs.load_state_dict(ours.state_dict())
    for cell in (ours, theirs):
        torch.manual_seed(2)
        for name in ("weight_ih", "weight_hh"):
            parametrizations.spectral_norm(cell, name)
    inputs = random(3, 4)
    for _ in range(3):
        close(ours(inputs), theirs(inputs))
    close(list(ours.buffers()), list(theirs.buffers()))


@BIAS
@TWINS
def test_state_dicts_move_both_ways(kind, bias):
    ours, theirs = twins(kind, bias=bias)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    inputs = torch.randn(3, 4)
    close(ours(inputs), theirs(inputs), 1e-6)
    other, _ = twins(kind, bias=bias)
    other.load_state_dict(theirs.state_dict(), strict=True)
    same(other(inputs), ours(inputs))


@BIAS
@TWINS
def test_repr_equals_torchs(kind, bias):
    ours, theirs = twins(kind, bias=bias)
    assert repr(ours) == repr(theirs)


def test_an_lstm_state_unpacks_and_has_names():
    hidden, cell = state = make_cell("lstm")(random(3, 4))
    assert isinstance(state, seqcells.LSTMState)
    assert state.hidden is hidden
    assert state.cell is cell


@BIAS
def test_the_projection_equals_torchs_projected_layer(bias):
    layer = nn.LSTM(4, 5, bias=bias, proj_size=3, dtype=F64)
    cell = make_cell("lstm_proj", bias=bias)
    names = [name for name, _ in cell.named_parameters()]
    assert [f"{name}_l0" for name in names] == [name for name, _ in layer.named_parameters()]
    cell.load_state_dict({name: getattr(layer, f"{name}_l0") for name in names}, strict=True)
    inputs, hx = random(6, 2, 4), (random(2, 3), random(2, 5))
    expected, final = layer(inputs, tuple(part.unsqueeze(0) for part in hx))
    state = hx
    for t in range(6):
        state = cell(inputs[t], state)
        close(state.hidden, expected[t])
    close(state, [part[0] for part in final])


def test_initial_weights_of_the_projection_equal_torchs():
    torch.manual_seed(1)
    layer = nn.LSTM(4, 5, proj_size=3, dtype=F64)
    torch.manual_seed(1)
    cell = make_cell("lstm_proj")
    same(list(cell.parameters()), list(layer.parameters()))


LSTM, GRU = "lstm", "gru"


@pytest.mark.parametrize(
    ("kind", "inputs", "hx", "error", "words"),
    [
        (GRU, random(2, 3, 4), None, ValueError, r"expected .*4.* got .*2, 3, 4"),
        (GRU, random(()), None, ValueError, r"expected .* got"),
        (GRU, random(3, 6), None, ValueError, r"expected 4 features, got 6"),
        (
            GRU,
            random(3, 4).float(),
            None,
            ValueError,
            r"expected torch.float64.* got torch.float32",
        ),
        (GRU, random(3, 4), random(2, 5), ValueError, r"expected shape \(3, 5\), got \(2, 5\)"),
        (GRU, random(3, 4), random(3, 4), ValueError, r"expected shape \(3, 5\), got \(3, 4\)"),
        (GRU, random(3, 4), random(3, 5).float(), ValueError, r"expected torch.float64.* got"),
        (GRU, random(3, 4), (random(3, 5),) * 2, TypeError, r"expected a tensor, got tuple"),
        (LSTM, random(3, 4), random(3, 5), TypeError, r"expected .*2.* got Tensor"),
        (LSTM, random(3, 4), (random(3, 5),), ValueError, r"expected 2 .*got 1"),
        (LSTM, random(3, 4), (random(3, 5), random(3, 4)), ValueError, r"cell.*expected shape"),
        (LSTM, random(4), (random(3, 5),) * 2, ValueError, r"expected .* got"),
    ],
)
def test_bad_input_raises(kind, inputs, hx, error, words):
    with pytest.raises(error, match=words):
        make_cell(kind)(inputs, hx)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: seqcells.GRUCell(4, 0), ValueError, "hidden_size: expected .* got 0"),
        (lambda: seqcells.RNNCell(0, 4), ValueError, "input_size: expected .* got 0"),
        (lambda: seqcells.LSTMCell(4, -1), ValueError, "hidden_size: expected .* got -1"),
        (lambda: seqcells.GRUCell(4, 5.0), TypeError, "hidden_size: expected .* got float"),
        (lambda: seqcells.LSTMCell(4, 5, proj_size=5), ValueError, "proj_size: expected .* got 5"),
        (lambda: seqcells.LSTMCell(4, 5, proj_size=-1), ValueError, "proj_size: .* got -1"),
        (lambda: seqcells.RNNCell(4, 5, nonlinearity="selu"), ValueError, "nonlinearity.*'selu'"),
    ],
)
def test_bad_sizes_raise(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_gated_cell_without_equations_raises():
    class Nothing(seqcells.GatedCell):
        gates = ("only",)

    with pytest.raises(TypeError, match="Nothing has no activate method"):
        Nothing(4, 5)(torch.randn(3, 4))


@pytest.mark.parametrize("batched", [True, False], ids=["batched", "unbatched"])
@pytest.mark.parametrize("kind", CLASSIC)
def test_a_hook_fires_once_per_call(kind, batched):
    cell, seen = make_cell(kind), []
    cell.register_forward_hook(lambda module, args, result: seen.append(args[0].dim()))
    cell(random(3, 4) if batched else random(4))
    assert seen == [2 if batched else 1]
