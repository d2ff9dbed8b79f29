"""Import from and export to the concatenated layout of the literature."""

import pytest
import torch
from cell_table import make_cell
from parity import F64, close, random, random_state

import seqcells

KINDS = ["rnn_tanh", "rnn_relu", "gru_reset_before", "lstm"]
OPTIONS = {"rnn_relu": {"nonlinearity": "relu"}}
I, H = 4, 5  # noqa: E741


def around(cell, kind):
    return type(cell).from_concatenated(**cell.to_concatenated(), **OPTIONS.get(kind, {}))


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_round_trip_preserves_the_function(kind, bias):
    cell = make_cell(kind, bias=bias)
    back = around(cell, kind)
    inputs, state = random(3, I), random_state(cell, 3)
    close(back(inputs, state), cell(inputs, state))
    assert back.weight_ih.dtype == F64


@pytest.mark.parametrize("kind", KINDS)
def test_export_adds_the_biases_and_import_zeroes_the_second(kind):
    cell = make_cell(kind)
    back = around(cell, kind)
    close(back.bias_ih, cell.bias_ih + cell.bias_hh)
    assert not back.bias_hh.any()
    assert torch.equal(back.weight_ih, cell.weight_ih)
    assert torch.equal(back.weight_hh, cell.weight_hh)
    assert all(parameter.requires_grad for parameter in back.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_export_inverts_import(kind):
    weights = make_cell(kind).to_concatenated()
    again = type(make_cell(kind)).from_concatenated(**weights).to_concatenated()
    assert weights.keys() == again.keys()
    for name, value in weights.items():
        close(again[name], value)
        assert not value.requires_grad


def test_gates_stand_in_the_published_order():
    """Hidden columns come first; the LSTM's sigmoid gates are I, F, O, separate from C."""
    lstm = make_cell("lstm")
    rows = dict(zip("ifgo", torch.cat([lstm.weight_hh, lstm.weight_ih], 1).split(H)))
    weights = lstm.to_concatenated()
    close(weights["Wg"], torch.cat([rows["i"], rows["f"], rows["o"]]))
    close(weights["Wc"], rows["g"])
    assert weights["bg"].shape == (3 * H,)

    gru = make_cell("gru_reset_before")
    rows = dict(zip("rzn", torch.cat([gru.weight_hh, gru.weight_ih], 1).split(H)))
    biases = dict(zip("rzn", (gru.bias_ih + gru.bias_hh).split(H)))
    weights = gru.to_concatenated()
    close([weights["Wr"], weights["Wu"], weights["Wa"]], [rows["r"], -rows["z"], rows["n"]])
    close([weights["br"], weights["bu"], weights["ba"]], [biases["r"], -biases["z"], biases["n"]])


@pytest.mark.parametrize("kind", KINDS)
def test_biases_may_be_columns(kind):
    cell = make_cell(kind)
    weights = {
        name: value.unsqueeze(1) if name.startswith("b") else value
        for name, value in cell.to_concatenated().items()
    }
    back = type(cell).from_concatenated(**weights)
    close(back.bias_ih, cell.bias_ih + cell.bias_hh)


def test_an_imported_gru_resets_before_the_product():
    cell = around(make_cell("gru_reset_before"), "gru_reset_before")
    assert cell.reset_after is False


@pytest.mark.parametrize(("kind", "words"), [("gru", "reset_after=False"), ("lstm_proj", "proj")])
def test_cells_that_the_layout_cannot_express_raise(kind, words):
    with pytest.raises(ValueError, match=words):
        make_cell(kind).to_concatenated()


GRU = {name: (5, 9) if name[0] == "W" else (5,) for name in ("Wr", "br", "Wu", "bu", "Wa", "ba")}


@pytest.mark.parametrize(
    ("cell", "shapes"),
    [
        (seqcells.RNNCell, {"Wa": (5, 9), "ba": (4,)}),
        (seqcells.RNNCell, {"Wa": (5, 5), "ba": (5,)}),
        (seqcells.LSTMCell, {"Wg": (7, 5), "bg": (7,), "Wc": (1, 5), "bc": (1,)}),
        (seqcells.GRUCell, GRU | {"Wr": (6, 9), "br": (6,), "Wa": (4, 9), "ba": (4,)}),
        (seqcells.GRUCell, GRU | {"Wu": (5, 10)}),
        (seqcells.LSTMCell, {"Wg": (14, 9), "bg": (14,), "Wc": (5, 9), "bc": (5,)}),
        (seqcells.LSTMCell, {"Wg": (15, 9), "bg": (12,), "Wc": (5, 9), "bc": (5,)}),
    ],
    ids=[
        "bias_too_short",
        "no_input_columns",
        "rows_unequal",
        "gru_rows",
        "gru_columns",
        "rows_odd",
        "gate_biases_too_few",
    ],
)
def test_shapes_that_do_not_fit_raise(cell, shapes):
    with pytest.raises(ValueError, match=r"expected .* got"):
        cell.from_concatenated(**{name: random(*shape) for name, shape in shapes.items()})
