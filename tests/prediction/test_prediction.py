"""Prediction with a loaded run: texts and streams."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import seqcells

PAGE = Path(__file__).parents[2] / "docs" / "prediction.md"
TEXTS = ["It is good, not bad.", "Bad!", "A film of many words, and all of them are of no use."]


def test_predict(make_run):
    classifier = seqcells.load(make_run(bidirectional=True))
    probabilities = classifier.predict(TEXTS)
    assert (probabilities.shape, probabilities.dtype) == ((3,), torch.float32)
    assert probabilities.std() > 0.01
    for text, probability in zip(TEXTS, probabilities):
        tokens = torch.tensor(classifier.vocabulary.encode(text)).unsqueeze(1)
        with torch.no_grad():
            alone = classifier.model(tokens, torch.tensor([len(tokens)])).sigmoid()
        torch.testing.assert_close(alone, probability.view(1))
        torch.testing.assert_close(classifier.predict([text])[0], probability)
    assert classifier.predict([]).shape == (0,)
    assert not classifier.model.training


def test_invalid_texts_raise(make_run):
    classifier = seqcells.load(make_run())
    with pytest.raises(TypeError, match="expected a list of texts, got one string"):
        classifier.predict("It is good.")
    with pytest.raises(TypeError, match="expected texts, got int at index 1"):
        classifier.predict(["good", 3])
    with pytest.raises(ValueError, match="expected at least one word, got ' ' at index 1"):
        classifier.predict(["good", " "])


@pytest.mark.parametrize("text", [["good film"], 5, None, b"good"])
def test_explaining_anything_but_a_string_raises(make_run, text):
    classifier = seqcells.load(make_run())
    name = type(text).__name__
    with pytest.raises(TypeError, match=f"expected one text as a string, got {name}; call"):
        classifier.explain(text)


def test_loading_another_task_raises(make_run, tmp_path):
    with pytest.raises(ValueError, match="expected the folder of a run, got"):
        seqcells.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="expected a run of the task sentiment"):
        seqcells.load(make_run("capitals"))


def test_missing_extra_error_suggests_pip_install():
    code = "import sys; sys.modules['tqdm'] = None; import seqcells; seqcells.load('runs/NAME')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("ImportError: expected the module tqdm, which")
    assert result.stderr.endswith("[train]'\n")


@pytest.mark.parametrize(
    "model",
    [
        {"cell": "rnn", "readout": ["last"]},
        {"cell": "gru", "num_layers": 2, "readout": ["mean", "max"]},
        {"cell": "lstm", "ngrams": 3, "ngram_buckets": 50, "readout": ["attention", "last"]},
        {"cell": "layer_norm_lstm", "num_layers": 2, "readout": ["max", "attention"]},
        {"cell": "peephole_lstm", "modifiers": {"zoneout": 0.2}},
        {"cell": "gru", "backend": "torch", "readout": ["mean", "last"]},
    ],
    ids=lambda model: model["cell"],
)
def test_stream_equals_prediction_at_every_word(make_run, model):
    classifier = seqcells.load(make_run(**model))
    words = " ".join(TEXTS).split()
    prefixes = [" ".join(words[:count]) for count in range(1, len(words) + 1)]
    stream = classifier.stream()
    read = torch.tensor([stream.read(word) for word in words])
    torch.testing.assert_close(read, classifier.predict(prefixes), atol=1e-6, rtol=1e-5)
    assert read.std() > 0.001
    assert isinstance(stream._step, seqcells.Stepper) == (model.get("backend") != "torch")


def test_stream_without_native_code_is_equal(make_run, monkeypatch):
    classifier = seqcells.load(make_run(cell="lstm", num_layers=2))
    text = " ".join(TEXTS)
    read = classifier.stream().read(text)
    monkeypatch.setattr("seqcells.kernels.cpu.unavailable", lambda: "not built")
    monkeypatch.setattr("seqcells.recurrence.missing_kernel._warned", True)
    stream = classifier.stream()
    assert not isinstance(stream._step, seqcells.Stepper)
    assert stream.read(text) == pytest.approx(read, abs=1e-6)


def test_stream_memory_is_constant(make_run):
    stream = seqcells.load(make_run(ngrams=3, readout=["attention", "mean", "max"])).stream()

    def stored():
        values = [*vars(stream).values(), *vars(stream._readout).values()]
        values += stream._step.state
        return [(type(v), v.numel() if isinstance(v, torch.Tensor) else 0) for v in values]

    stream.read("good bad good bad")
    before, tokens = stored(), len(stream._last)
    stream.read("good bad " * 50)
    assert stored() == before
    assert len(stream._last) == tokens == 3


def test_streams_are_independent(make_run):
    classifier = seqcells.load(make_run())
    one, other = classifier.stream(), classifier.stream()
    assert one.probability is None
    with pytest.raises(ValueError, match="expected at least one word, got"):
        one.read(" ")
    one.read("bad")
    other.read("good film")
    one.read("film")
    assert one.read(" ") == one.probability
    expected = classifier.predict(["bad film", "good film"])
    torch.testing.assert_close(torch.tensor([one.probability, other.probability]), expected)


@pytest.mark.parametrize("text", [5, None, ["good"], b"good"])
def test_reading_anything_but_a_string_raises_and_keeps_the_state(make_run, text):
    classifier = seqcells.load(make_run())
    stream, other = classifier.stream(), classifier.stream()
    before = stream.read("bad"), other.read("bad")
    with pytest.raises(TypeError, match=f"expected a string.*, got {type(text).__name__}"):
        stream.read(text)
    assert stream.probability == before[0]
    assert stream.read("film") == other.read("film") != before[1]


def test_streaming_a_bidirectional_model_raises(make_run):
    with pytest.raises(ValueError, match=r"unidirectional.*model\.bidirectional false"):
        seqcells.load(make_run(bidirectional=True)).stream()


def test_streaming_a_model_without_recurrence_raises(make_run):
    with pytest.raises(ValueError, match="expected a recurrent model"):
        seqcells.load(make_run(kind="words")).stream()


def test_code_of_the_page_runs(make_run, tmp_path, monkeypatch, capsys):
    (tmp_path / "runs").mkdir()
    Path(make_run()).rename(tmp_path / "runs" / "NAME")
    monkeypatch.chdir(tmp_path)
    names = {"seqcells": seqcells}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(block, names)
    lines = capsys.readouterr().out.splitlines()
    explained, streamed = lines[:-5], lines[-5:]
    assert [line.split("  ")[1] for line in explained] == names["explanation"].words
    assert float(streamed[-1].split("  ")[0]) == pytest.approx(
        names["classifier"].predict(["It is good, not bad."]).item(), abs=0.006
    )
