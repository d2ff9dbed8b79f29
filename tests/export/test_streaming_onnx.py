"""Stateful ONNX models of text classifiers, which read texts in chunks of words."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from recurrent_modules import first_state

import seqcells
from seqcells.lab.cli import main
from seqcells.lab.export import export_run
from seqcells.lab.export.streaming import classifier_to_stateful_onnx
from seqcells.lab.prediction.stream import Stream
from seqcells.lab.training import load_best

EVERY_READOUT = ["last", "max", "mean", "attention"]


def check(model):
    """Compare the logits after each chunk with those of the text so far."""
    graph = classifier_to_stateful_onnx(model)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    words = model.inputs.words.num_embeddings
    for batch_size in (1, 3):
        tokens = torch.randint(words, (11, batch_size))
        for sizes in ([11], [1] * 11, [1, 4, 2, 4], [5, 1, 5]):
            state, read = first_state(session, batch_size), 0
            for chunk in tokens.split(sizes):
                read += len(chunk)
                logits, *parts = session.run(None, {"tokens": chunk.numpy(), **state})
                state = dict(zip(state, parts, strict=True))
                with torch.no_grad():
                    expected = model(tokens[:read], torch.full((batch_size,), read))
                torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=1e-5, atol=1e-5)
    return graph


@pytest.mark.parametrize("readout", [*([kind] for kind in EVERY_READOUT), EVERY_READOUT], ids=str)
def test_readouts(make_model, readout):
    check(make_model(readout=readout))


@pytest.mark.parametrize(
    "settings",
    [
        {"cell": "rnn"},
        {"cell": "gru", "num_layers": 2},
        {"cell": "lstm", "num_layers": 2},
        {"cell": "light_lstm", "modifiers": {"zoneout": 0.1, "learned_state": True}},
        {"cell": "layer_norm_gru", "num_layers": 2},
        {"cell": "min_gru", "modifiers": {"learned_state": True}},
        {"cell": "slstm", "num_layers": 2},
        {"cell": "lem", "num_layers": 2},
        {"cell": "multiplicative_lstm", "modifiers": {"zoneout": 0.1, "learned_state": True}},
        {"cell": "rhn"},
        {"cell": "ugrnn"},
        {"ngrams": 2, "ngram_buckets": 50},
        {"ngrams": 4, "ngram_buckets": 50, "cell": "gru"},
    ],
    ids=str,
)
def test_models(make_model, settings):
    check(make_model(readout=EVERY_READOUT, **settings))


@torch.no_grad()
@pytest.mark.parametrize("scale", [-80.0, 80.0])
def test_attention_with_large_scores(make_model, scale):
    """Scores are subtracted from the largest one; the first score replaces the zero state."""
    model = make_model(readout=["attention"])
    model.readout.attention.weight.weight.fill_(scale)
    model.readout.attention.hidden.bias.add_(3)
    check(model)


def test_negative_maxima(make_model):
    """The maximum over the words is not that with the zeros of the first state."""
    model = make_model(readout=["max"], cell="rnn")
    with torch.no_grad():
        model.recurrent.bias_ih_l0.fill_(-5)
    outputs, _ = model.recurrent(torch.randn(3, 1, 5))
    assert (outputs < 0).all()
    check(model)


def test_residual_stack(make_model):
    model = make_model(readout=EVERY_READOUT)
    cells = [seqcells.GRUCell(5, 5), seqcells.LightLSTMCell(5, 5), seqcells.LSTMCell(5, 4)]
    model.recurrent = seqcells.Stack(cells, residual=True).eval()
    check(model)


def test_names(make_model):
    graph = check(make_model(readout=EVERY_READOUT, ngrams=3, ngram_buckets=9)).graph
    state = ["words", "h", "c", "count", "max", "sum", "score", "weighted", "weight"]
    assert [value.name for value in graph.input] == ["tokens", *(f"{name}_0" for name in state)]
    assert [value.name for value in graph.output] == ["logits", *(f"{name}_n" for name in state)]


def test_state_has_only_what_the_model_needs(make_model, capfd):
    graph = check(make_model(readout=["last"], cell="gru")).graph
    assert [value.name for value in graph.input] == ["tokens", "h_0"]
    graph = check(make_model(readout=["mean"])).graph
    assert [value.name for value in graph.input] == ["tokens", "h_0", "c_0", "count_0", "sum_0"]
    assert capfd.readouterr() == ("", "")  # runtimes warn of unused constants


def test_command(make_run, capfd):
    """The exported file agrees with `Stream`, which runs in PyTorch."""
    run = make_run(cell="gru", ngrams=2, ngram_buckets=50, readout=["last", "mean"])
    assert main(["export", str(run.folder), "--format", "onnx", "--stateful"]) == 0
    path = run.folder / "model.onnx"
    assert capfd.readouterr().out == f"{path}\n"
    onnx.checker.check_model(str(path), full_check=True)
    session, vocabulary = onnxruntime.InferenceSession(path), run.load_vocabulary()
    assert "config" in session.get_modelmeta().custom_metadata_map
    stream, state = Stream(load_best(run, vocabulary), vocabulary), first_state(session, 1)
    for word in ("it", "is", "not", "good"):
        expected = stream.read(word)
        tokens = np.array([vocabulary.encode(word)])
        logits, *parts = session.run(None, {"tokens": tokens, **state})
        state = dict(zip(state, parts))
        assert 1 / (1 + np.exp(-logits[0])) == pytest.approx(expected, abs=1e-5)


def test_metadata_has_the_initial_state_and_the_settings(make_run):
    run = make_run(cell="min_gru", modifiers={"learned_state": True})
    session = onnxruntime.InferenceSession(export_run(run.folder, "onnx", stateful=True))
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["config"])["model"]["cell"] == "min_gru"
    start = load_best(run, run.load_vocabulary()).recurrent.layers[0].cell.initial_state(1)
    initial = json.loads(metadata["initial_state"])
    assert list(initial) == ["h_0"]
    torch.testing.assert_close(torch.tensor(initial["h_0"]), start.detach())


def test_run_with_layers_of_torch(make_run):
    run = make_run(backend="torch", num_layers=2)
    session = onnxruntime.InferenceSession(export_run(run.folder, "onnx", stateful=True))
    tokens = torch.tensor([[2], [3], [4]])
    with torch.no_grad():
        expected = load_best(run, run.load_vocabulary())(tokens, torch.tensor([3]))
    logits = session.run(["logits"], {"tokens": tokens.numpy(), **first_state(session, 1)})[0]
    torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=1e-5, atol=1e-5)


def test_unsupported_models_raise(make_model, make_run, capfd):
    with pytest.raises(ValueError, match="expected a unidirectional model, got a bidirectional"):
        classifier_to_stateful_onnx(make_model(bidirectional=True))
    with pytest.raises(ValueError, match="got AveragedWords; use torch-export or safetensors"):
        classifier_to_stateful_onnx(make_model(kind="words"))
    with pytest.raises(ValueError, match=r"call \.eval\(\)"):
        classifier_to_stateful_onnx(make_model().train())
    run = make_run(bidirectional=True)
    assert main(["export", str(run.folder), "--format", "onnx", "--stateful"]) == 2
    output, error = capfd.readouterr()
    assert (output, error.count("\n")) == ("", 1)
    assert "train with model.bidirectional false" in error
    assert not (run.folder / "model.onnx").exists()


@pytest.mark.parametrize("format", ["safetensors", "torch-export"])
def test_other_formats_raise(make_run, capfd, format):
    run = make_run()
    assert main(["export", str(run.folder), "--format", format, "--stateful"]) == 2
    error = capfd.readouterr().err
    assert f"stateful: expected the format onnx, got {format}; use --format onnx, or" in error
    assert not list(run.folder.glob("model.*"))
