"""ONNX models against their PyTorch models, on ragged batches."""

import onnx
import onnxruntime
import pytest
import torch
from recurrent_modules import Staged
from torch import nn

import seqcells
from seqcells.lab.export.onnx import classifier_to_onnx, layers_to_onnx

EVERY_READOUT = ["last", "max", "mean", "attention"]
DEEP = {"bidirectional": True, "num_layers": 2, "readout": EVERY_READOUT}


class Shifted(seqcells.LightLSTMCell):
    """A subclass of a built-in cell with other equations."""

    @staticmethod
    def activate(from_input, from_hidden, state):
        return seqcells.LightLSTMCell.activate(from_input + 1, from_hidden, state)


class Sorted(seqcells.LightLSTMCell):
    """A cell with an operation that no program has."""

    @staticmethod
    def activate(from_input, from_hidden, state):
        return seqcells.LightLSTMCell.activate(from_input.sort(-1).values, from_hidden, state)


def run(model, **inputs):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    outputs = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    return [torch.from_numpy(value) for value in outputs]


def check(model, batches):
    graph = classifier_to_onnx(model)
    onnx.checker.check_model(graph, full_check=True)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    for tokens, lengths in batches:
        feed = {"tokens": tokens.numpy(), "lengths": lengths.numpy()}
        (logits,) = session.run(["logits"], feed)
        expected = model(tokens, lengths).detach()
        torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=1e-5, atol=1e-5)
    return graph


def with_cells(model, make):
    """Replace the recurrence with a bidirectional stack of two layers of other cells."""
    entries = [(make(size, 4), make(size, 4)) for size in (5, 8)]
    model.recurrent = seqcells.Stack(entries).eval()
    return model


@pytest.mark.parametrize("readout", [*([kind] for kind in EVERY_READOUT), EVERY_READOUT], ids=str)
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_one_direction(make_model, batches, cell, readout):
    check(make_model(cell=cell, readout=readout), batches)


@pytest.mark.parametrize("backend", ["seqcells", "torch"])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_layers_and_directions(make_model, batches, cell, backend):
    graph = check(make_model(cell=cell, backend=backend, **DEEP), batches)
    operators = [node.op_type for node in graph.graph.node]
    assert operators.count(cell.upper()) == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda *sizes: seqcells.RNNCell(*sizes, nonlinearity="relu"),
        lambda *sizes: seqcells.RNNCell(*sizes, bias=False),
        seqcells.GRUCell,
        lambda *sizes: seqcells.GRUCell(*sizes, reset_after=False),
        seqcells.MGUCell,
        lambda *sizes: seqcells.MGUCell(*sizes, reset_after=False),
        seqcells.LSTMCell,
        seqcells.PeepholeLSTMCell,
        seqcells.CoupledLSTMCell,
        seqcells.LightLSTMCell,
        lambda *sizes: seqcells.LightLSTMCell(*sizes, bias=False),
        seqcells.LayerNormLSTMCell,
        seqcells.LayerNormGRUCell,
        seqcells.IndRNNCell,
        seqcells.MinGRUCell,
        seqcells.MinLSTMCell,
        lambda inputs, outputs: seqcells.LSTMCell(inputs, 6, proj_size=outputs),
        lambda inputs, outputs: seqcells.LSTMCell(inputs, 6, bias=False, proj_size=outputs),
        Shifted,
        lambda *sizes: seqcells.Zoneout(seqcells.LSTMCell(*sizes), (0.2, 0.6)),
        lambda *sizes: seqcells.Zoneout(seqcells.GRUCell(*sizes, reset_after=False), 0.3),
        lambda *sizes: seqcells.Zoneout(seqcells.MGUCell(*sizes, reset_after=False), 0.3),
        lambda *sizes: seqcells.LearnedState(seqcells.LightLSTMCell(*sizes)),
        seqcells.MultiplicativeLSTMCell,
        lambda *sizes: seqcells.RHNCell(*sizes, depth=2),
        seqcells.RHNCell,
        lambda *sizes: seqcells.Zoneout(seqcells.LEMCell(*sizes), (0.2, 0.6)),
        seqcells.UGRNNCell,
        Staged,
    ],
    ids=[
        "relu",
        "no_bias",
        "gru",
        "gru_before",
        "mgu",
        "mgu_before",
        "lstm",
        "peephole",
        "coupled",
        "light",
        "light_no_bias",
        "layer_norm_lstm",
        "layer_norm_gru",
        "indrnn",
        "min_gru",
        "min_lstm",
        "projected",
        "projected_no_bias",
        "user",
        "zoneout_lstm",
        "zoneout_gru_before",
        "zoneout_mgu_before",
        "learned_light",
        "multiplicative",
        "rhn_two_layers",
        "rhn",
        "zoneout_lem",
        "ugrnn",
        "staged",
    ],
)
def test_cells(make_model, batches, make):
    model = with_cells(make_model(**DEEP), make)
    with torch.no_grad():
        for parameter in model.recurrent.parameters():
            parameter.uniform_(-1, 1)
    check(model, batches)


@pytest.mark.parametrize("longest", [2, 4])
def test_hashed_word_pairs(make_model, batches, longest):
    check(make_model(ngrams=longest, ngram_buckets=50), batches)


def test_hashes_of_large_numbers(make_model):
    """Hashes exceed the range of int32 and the precision of float32."""
    model = make_model(ngrams=3, ngram_buckets=1009)
    model.inputs.words = nn.Embedding(2_000_000, 5)
    tokens = torch.randint(1_900_000, 2_000_000, (30, 3))
    check(model, [(tokens, torch.tensor([30, 4, 17]))])


def test_dropout_is_removed_and_learned_state_exported(make_model, batches):
    modifiers = {"drop_connect": 0.3, "variational_dropout": 0.3, "learned_state": True}
    check(make_model(modifiers=modifiers, **DEEP), batches)


def test_names_and_sizes(make_model):
    graph = classifier_to_onnx(make_model()).graph

    def sizes(values):
        shapes = {value.name: value.type.tensor_type.shape.dim for value in values}
        return {name: [size.dim_param for size in shape] for name, shape in shapes.items()}

    assert sizes(graph.input) == {"tokens": ["time", "batch"], "lengths": ["batch"]}
    assert sizes(graph.output) == {"logits": ["batch"]}


@pytest.mark.parametrize("batch_first", [False, True], ids=["time_first", "batch_first"])
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_layers_without_a_model(kind, batch_first):
    options = {"num_layers": 2, "bidirectional": True, "batch_first": batch_first, "dropout": 0.5}
    layer = getattr(seqcells, kind)(3, 5, **options).eval()
    theirs = getattr(nn, kind)(3, 5, **options).eval()
    theirs.load_state_dict(layer.state_dict())
    inputs, lengths = torch.randn(6, 4, 3), torch.tensor([5, 6, 0, 2])
    inputs = inputs.transpose(0, 1).contiguous() if batch_first else inputs
    with torch.no_grad():
        outputs, state = layer(inputs, lengths=lengths)
    expected = [outputs, *state] if kind == "LSTM" else [outputs, state]
    for own in (layer, theirs):
        actual = run(layers_to_onnx(own), inputs=inputs, lengths=lengths)
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"cell": "light_lstm", "modifiers": {"zoneout": 0.1, "learned_state": True}},
        {"cell": "gru", "modifiers": {"zoneout": 0.1}},
        {"cell": "min_gru"},
        {"cell": "slstm"},
        {"cell": "rhn", "modifiers": {"zoneout": 0.1}},
    ],
    ids=str,
)
def test_configured_models_with_other_cells(make_model, batches, settings):
    check(make_model(**settings, **DEEP), batches)


def test_residual_stack(make_model, batches):
    model = make_model(**(DEEP | {"bidirectional": False}))
    cells = [seqcells.GRUCell(5, 5), seqcells.LightLSTMCell(5, 5), seqcells.LSTMCell(5, 4)]
    model.recurrent = seqcells.Stack(cells, residual=True).eval()
    check(model, batches)


def test_different_cells_in_two_directions(make_model, batches):
    model = make_model(readout=EVERY_READOUT, bidirectional=True)
    pairs = [(seqcells.LSTMCell(5, 3), seqcells.GRUCell(5, 5))]
    pairs.append((seqcells.MinGRUCell(8, 3), seqcells.LSTMCell(8, 5)))
    model.recurrent = seqcells.Stack(pairs).eval()
    check(model, batches)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
def test_projected_layers(bias):
    options = {"num_layers": 2, "bidirectional": True, "proj_size": 2, "bias": bias}
    layer, theirs = seqcells.LSTM(3, 5, **options).eval(), nn.LSTM(3, 5, **options).eval()
    theirs.load_state_dict(layer.state_dict())
    inputs, lengths = torch.randn(6, 4, 3), torch.tensor([5, 6, 0, 2])
    with torch.no_grad():
        outputs, state = layer(inputs, lengths=lengths)
    for own in (layer, theirs):
        actual = run(layers_to_onnx(own), inputs=inputs, lengths=lengths)
        torch.testing.assert_close(actual, [outputs, *state], rtol=1e-5, atol=1e-5)


def test_cells_that_are_called_at_every_step_raise(make_model):
    hooked = with_cells(make_model(**DEEP), seqcells.GRUCell)
    hooked.recurrent.layers[0][0].cell.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match=r"has no hooks, got GRUCell\(5, 4\); write its equations"):
        classifier_to_onnx(hooked)
    with pytest.raises(ValueError, match=r"got GRUCell\(5, 4\); write its equations"):
        classifier_to_onnx(with_cells(make_model(**DEEP), nn.GRUCell))


def test_equations_that_cannot_be_recorded_raise(make_model):
    model = with_cells(make_model(**DEEP), Sorted)
    with pytest.raises(
        ValueError, match=r"can be recorded, got Sorted.*derive the cell from GatedCell"
    ):
        classifier_to_onnx(model)


def test_other_models_raise(make_model):
    with pytest.raises(ValueError, match="expected an RNN, GRU or LSTM, got Linear"):
        layers_to_onnx(nn.Linear(2, 2).eval())
    with pytest.raises(ValueError, match="got AveragedWords; use torch-export or safetensors"):
        classifier_to_onnx(make_model(kind="words"))


def test_training_mode_and_float64_raise(make_model):
    with pytest.raises(ValueError, match=r"call \.eval\(\)"):
        classifier_to_onnx(make_model().train())
    with pytest.raises(ValueError, match=r"float64; call \.float\(\)"):
        layers_to_onnx(seqcells.LSTM(3, 4, dtype=torch.float64).eval())
