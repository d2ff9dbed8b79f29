"""Prediction with quantized weights: `seqcells.load(run, quantize=...)` and `--quantize`."""

import json
import re

import pytest
import torch

import seqcells
from seqcells.lab.cli import main
from seqcells.lab.training import Run, evaluate, load_best, task_of
from seqcells.lab.training.tasks.base import describe

TEXTS = ["It is good, not bad.", "Bad!", "A film of many words, and all of them are of no use."]


def matrices(model):
    """Return the dtypes of the matrices of a model's recurrence."""
    state = model.recurrent.state_dict()
    return {part.dtype for name, part in state.items() if "weight" in name}


@pytest.mark.parametrize("dtype", ["int8", pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "model",
    [
        {"cell": "lstm", "num_layers": 2, "bidirectional": True},
        {"cell": "gru", "backend": "torch"},
        {"cell": "light_lstm", "modifiers": {"zoneout": 0.2, "learned_state": True}},
    ],
    ids=lambda model: model["cell"],
)
def test_the_classifier_runs_on_quantized_weights(make_run, model, dtype):
    run = make_run(**model)
    exact, classifier = seqcells.load(run), seqcells.load(run, quantize=dtype)
    assert matrices(exact.model) == {torch.float32}
    assert matrices(classifier.model) == {getattr(torch, dtype)}
    error = (classifier.predict(TEXTS) - exact.predict(TEXTS)).abs().max().item()
    assert 1e-6 < error < 0.02
    explanation = classifier.explain(TEXTS[0])
    last = explanation.probabilities[-1]
    torch.testing.assert_close(last, classifier.predict(TEXTS)[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("backend", [pytest.param("seqcells", marks=pytest.mark.slow), "torch"])
def test_a_stream_steps_quantized_weights(make_run, backend):
    run = make_run(cell="lstm", num_layers=2, backend=backend)
    classifier = seqcells.load(run, quantize="int8")
    words = " ".join(TEXTS).split()
    prefixes = [" ".join(words[:count]) for count in range(1, len(words) + 1)]
    stream = classifier.stream()
    assert isinstance(stream._step, seqcells.Stepper)
    read = torch.tensor([stream.read(word) for word in words])
    torch.testing.assert_close(read, classifier.predict(prefixes), atol=1e-5, rtol=0)
    exact = seqcells.load(run).predict(prefixes)
    assert 1e-6 < (read - exact).abs().max() < 0.02


@pytest.mark.slow
def test_a_stream_of_a_model_in_bfloat16_equals_prediction(make_run):
    run = make_run(cell="gru", readout=["last"])
    exact, classifier = seqcells.load(run), seqcells.load(run)
    classifier.model.bfloat16()
    stream = classifier.stream()
    assert not isinstance(stream._step, seqcells.Stepper)
    for word, expected in zip(("good", "bad"), exact.predict(["good", "good bad"])):
        assert stream.read(word) == pytest.approx(expected.item(), abs=0.03)


@pytest.mark.slow
def test_other_dtypes_raise_with_the_nearest_name(make_run, capfd):
    run = make_run()
    message = "quantize: expected int8 or bfloat16, got 'bfloat'; did you mean bfloat16?"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        seqcells.load(run, quantize="bfloat")
    with pytest.raises(ValueError, match=r"expected int8 or bfloat16, got torch\.int8"):
        seqcells.load(run, quantize=torch.int8)
    for command in (["predict", run, "good"], ["evaluate", run]):
        assert main([*command, "--quantize", "int"]) == 2
        output, error = capfd.readouterr()
        assert output == ""
        reason = "expected int8 or bfloat16, got 'int'; did you mean int8?"
        assert error == f"error: --quantize: {reason}\n"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pooled", "words", "window"])
def test_a_model_without_recurrence_raises(make_run, capfd, kind):
    run = make_run(kind=kind)
    message = (
        f"quantize: expected a run of a recurrent model, got {run}, whose model.kind is {kind}"
    )
    with pytest.raises(ValueError, match=f"{re.escape(message)}; leave quantize out"):
        seqcells.load(run, quantize="int8")
    assert main(["predict", run, "good", "--quantize", "int8"]) == 2
    assert message in capfd.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["RUN", "--quantize", "int8", "TEXT"],
        *(
            pytest.param(arguments, marks=pytest.mark.slow)
            for arguments in (
                ["--quantize", "int8", "RUN", "TEXT"],
                ["RUN", "--quantize=int8", "TEXT"],
                ["RUN", "TEXT", "--quantize", "int8"],
                ["RUN", "--quantize", "int8", "--", "TEXT"],
                ["RUN", "--explain", "TEXT", "--quantize", "int8"],
            )
        ),
    ],
    ids=" ".join,
)
def test_the_option_has_any_place(make_run, monkeypatch, arguments):
    seen = []
    monkeypatch.setattr("seqcells.lab.commands.predict_texts", lambda *call, **_: seen.append(call))
    values = {"RUN": make_run(), "TEXT": TEXTS[0]}
    assert main(["predict", *(values.get(argument, argument) for argument in arguments)]) == 0
    ((classifier, texts),) = seen
    assert matrices(classifier.model) == {torch.int8}
    assert texts == [TEXTS[0]]


@pytest.mark.slow
def test_an_option_without_a_value_raises(make_run, capfd):
    run = make_run()
    for arguments in ([run, "good", "--quantize"], [run, "--file"]):
        assert main(["predict", *arguments]) == 2
        assert f"argument {arguments[-1]}: expected one argument" in capfd.readouterr().err


def test_predict_on_the_command_line(make_run, tmp_path, capfd):
    run, file = make_run(), tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    expected = [f"{value:.4f}" for value in seqcells.load(run, quantize="int8").predict(TEXTS)]
    exact = [f"{value:.4f}" for value in seqcells.load(run).predict(TEXTS)]
    assert expected != exact
    assert main(["predict", run, "--quantize", "int8", "--file", str(file)]) == 0
    answers = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [f"{answer['probability']:.4f}" for answer in answers] == expected


@pytest.mark.parametrize("task", ["sentiment", pytest.param("capitals", marks=pytest.mark.slow)])
def test_evaluate_measures_the_quantized_model(make_run, capfd, task):
    run = Run.open(make_run(task))
    vocabulary, printed = run.load_vocabulary(), {}
    for dtype in (None, "int8"):
        options = [] if dtype is None else ["--quantize", dtype]
        assert main(["evaluate", str(run.folder), *options]) == 0
        printed[dtype] = capfd.readouterr().out
        model, task = load_best(run, vocabulary, dtype), task_of(run.config)
        scores = evaluate(task, model, task.load_split(vocabulary, "test"))
        assert printed[dtype] == f"test {describe(scores)}\n"
    assert matrices(model) == {torch.int8}
    assert printed[None] != printed["int8"]


def test_a_tagger_answers_with_quantized_weights(make_run, capfd):
    run = make_run("capitals")
    assert main(["predict", run, "it is good", "--quantize", "int8"]) == 0
    assert capfd.readouterr().out.lower() == "it is good\n"
