"""`seqcells export`: exported models in other processes."""

import json
import re
import shutil
import sys
from pathlib import Path

import onnx
import pytest
import torch

from seqcells.lab.cli import main
from seqcells.lab.export import FORMATS, export_run
from seqcells.lab.export.weights import load
from seqcells.lab.training import load_best
from seqcells.lab.training.config import TASK_NAMES

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
DEEP = {"bidirectional": True, "num_layers": 2, "ngrams": 2, "ngram_buckets": 50}
TEXTS = ["It is good, not bad.", "It is bad."]


def block(words):
    """Return the Python block of the page that contains `words`."""
    (block,) = [
        code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if words in code
    ]
    return block


def best_model(run):
    return load_best(run, run.load_vocabulary())


def logits_of(run, texts):
    vocabulary = run.load_vocabulary()
    rows = [vocabulary.encode(text) for text in texts]
    tokens = torch.zeros(max(map(len, rows)), len(rows), dtype=torch.int64)
    for row, numbers in enumerate(rows):
        tokens[: len(numbers), row] = torch.tensor(numbers)
    with torch.no_grad():
        return best_model(run)(tokens, torch.tensor([len(row) for row in rows]))


def failure(capfd, *arguments):
    assert main(["export", *map(str, arguments)]) == 2
    output, error = capfd.readouterr()
    assert output == ""
    assert error.count("\n") == 1
    return error


def test_command_prints_the_path(make_run, tmp_path, capfd):
    run = make_run()
    for format in FORMATS.keys() - {"c"}:
        assert main(["export", str(run.folder), "--format", format]) == 0
        path = f"{run.folder / 'model'}{FORMATS[format].suffix}"
        assert capfd.readouterr().out == f"{path}\n"
    path = tmp_path / "there" / "reviews.onnx"
    assert main(["export", str(run.folder), "--format", "onnx", "--output", str(path)]) == 0
    assert sorted(file.name for file in path.parent.iterdir()) == ["reviews.onnx", run.words.name]
    assert path.with_name(run.words.name).read_bytes() == run.words.read_bytes()


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_safetensors_round_trip(make_run, batches, cell):
    run = make_run(cell=cell, **DEEP)
    model, vocabulary, config = load(export_run(run.folder, "safetensors"))
    assert vocabulary.words == run.load_vocabulary().words
    assert config.model == run.config.model
    for tokens, lengths in batches:
        torch.testing.assert_close(model(tokens, lengths), best_model(run)(tokens, lengths))


@pytest.mark.slow
def test_safetensors_load_into_torch_without_seqcells(make_run, run_python):
    run = make_run(**DEEP)
    export_run(run.folder, "safetensors")
    inputs, recurrent = torch.randn(6, 2, 5), best_model(run).recurrent
    torch.save((inputs, recurrent(inputs)[0].detach()), run.folder / "expected.pt")
    check = """
import sys
inputs, expected = torch.load("expected.pt")
torch.testing.assert_close(lstm(inputs)[0], expected)
print("seqcells" in sys.modules)
"""
    assert run_python(block("load_file") + check, run.folder) == "False\n"


def test_code_of_the_page_runs(make_run, monkeypatch):
    run = make_run(cell="gru")
    export_run(run.folder, "safetensors")
    monkeypatch.chdir(run.folder)
    names = {}
    exec(block("import load"), names)
    assert names["config"].model.cell == "gru"
    exec(block("layers_to_onnx"), names)
    assert [value.name for value in names["model"].graph.output] == ["outputs", "h_n"]


@torch.no_grad()
def test_stateful_code_of_the_page_runs(make_run, monkeypatch):
    run = make_run(cell="gru", ngrams=2, ngram_buckets=50, readout=["last", "mean"])
    export_run(run.folder, "onnx", run.folder / "reader.onnx", stateful=True)
    monkeypatch.chdir(run.folder)
    names = {}
    exec(block("to_stateful_onnx"), names)
    expected, final = names["lstm"](names["sequence"])
    outputs = torch.cat([torch.from_numpy(output) for output in names["outputs"]])
    torch.testing.assert_close(outputs, expected, rtol=1e-5, atol=1e-5)
    state = [torch.from_numpy(part) for part in names["state"].values()]
    torch.testing.assert_close(state, list(final), rtol=1e-5, atol=1e-5)
    exec(block("for word in (5"), names)
    expected = best_model(run)(torch.tensor([[5], [3], [4]]), torch.tensor([3]))
    logits = torch.from_numpy(names["logits"])
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_weights_have_names_of_torch(make_run, cell):
    run = make_run(cell=cell, bidirectional=True)
    state = load(export_run(run.folder, "safetensors")).model.recurrent.state_dict()
    getattr(torch.nn, cell.upper())(5, 4, bidirectional=True).load_state_dict(state)


@pytest.mark.parametrize("task", TASK_NAMES)
def test_safetensors_supports_every_task(make_run, task):
    run = make_run(task=task, cell="min_gru", modifiers={"zoneout": 0.1})
    model, vocabulary, config = load(export_run(run.folder, "safetensors"))
    assert config.task == task
    assert (vocabulary is None) == (not run.words.exists())
    expected = load_best(run, vocabulary).state_dict()
    torch.testing.assert_close(model.state_dict(), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    "settings",
    [
        DEEP | {"readout": ["last", "max", "mean", "attention"]},
        pytest.param(
            {"cell": "layer_norm_gru", "modifiers": {"zoneout": 0.1, "learned_state": True}},
            marks=pytest.mark.slow,
        ),
        {"kind": "window"},
        pytest.param({"kind": "words"}, marks=pytest.mark.slow),
        pytest.param({"kind": "pooled", "readout": ["last", "attention"]}, marks=pytest.mark.slow),
        {"backend": "torch"},
    ],
    ids=str,
)
def test_programs_have_dynamic_shapes(make_run, batches, settings):
    run = make_run(**settings)
    program = torch.export.load(export_run(run.folder, "torch-export")).module()
    for tokens, lengths in batches:
        actual, expected = program(tokens, lengths), best_model(run)(tokens, lengths)
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_program_in_a_new_process(make_run, run_python):
    run = make_run(cell="gru", bidirectional=True)
    content = export_run(run.folder, "torch-export").read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in content
    tokens, lengths = torch.tensor([[5, 2], [3, 0]]), torch.tensor([2, 1])
    torch.save(best_model(run)(tokens, lengths).detach(), run.folder / "expected.pt")
    check = """
torch.testing.assert_close(logits, torch.load("expected.pt"))
import sys
print(sorted({name.split(".")[1] for name in sys.modules if name.startswith("seqcells.")}))
print(description["config"])
"""
    parts, config = run_python(block("torch.export.load") + check, run.folder).splitlines()
    assert not {"training", "models", "text"} & set(json.loads(parts.replace("'", '"')))
    assert json.loads(config)["model"]["cell"] == "gru"


def test_onnx_from_text_to_probability_without_torch(make_run, run_python):
    run = make_run(**DEEP)
    path = export_run(run.folder, "onnx")
    onnx.checker.check_model(str(path), full_check=True)
    check = """
import sys
print(bool({"torch", "seqcells"} & set(sys.modules)))
print(json.dumps(probabilities.tolist()))
print(session.get_modelmeta().custom_metadata_map["config"])
"""
    imported, probabilities, config = run_python(
        block("encode(text)") + check, run.folder
    ).splitlines()
    assert imported == "False"
    expected = logits_of(run, TEXTS).sigmoid()
    torch.testing.assert_close(
        torch.tensor(json.loads(probabilities)), expected, rtol=1e-5, atol=1e-5
    )
    assert json.loads(config)["data"]["max_tokens"] == run.config.data.max_tokens


def test_unsupported_exports_raise(make_run, tmp_path, capfd):
    language = make_run("language", task="language")
    error = failure(capfd, language.folder, "--format", "onnx")
    assert "expected the run of a sentiment classifier to export as onnx, got one of" in error
    assert "use safetensors, which supports every run" in error
    run = make_run(kind="words")
    output = tmp_path / "there" / "model.onnx"
    error = failure(capfd, run.folder, "--format", "onnx", "--output", output)
    assert "got AveragedWords" in error
    assert not list(output.parent.iterdir())
    error = failure(capfd, run.folder, "--format", "torch-export", "--output", "model.pt")
    assert "expected a file with the suffix .pt2, got model.pt" in error
    error = failure(capfd, tmp_path / "nowhere", "--format", "onnx")
    assert "expected the folder of a run" in error
    with pytest.raises(ValueError, match=r"format: expected one of safetensors, .*'tflite'"):
        export_run(run.folder, "tflite")


def test_another_vocabulary_is_not_overwritten(make_run, tmp_path, capfd):
    first, second = make_run("first"), make_run("second", words=["<pad>", "<unk>", "it"])
    output = ("--format", "onnx", "--output", tmp_path / "there" / "model.onnx")
    export_run(first.folder, *output[1::2])
    assert "choose an output in another folder" in failure(capfd, second.folder, *output)
    assert (tmp_path / "there" / "vocabulary.json").read_bytes() == first.words.read_bytes()


def test_invalid_file_raises(make_run, tmp_path):
    import safetensors.torch

    path = export_run(make_run().folder, "safetensors")
    alone = tmp_path / "alone" / path.name
    alone.parent.mkdir()
    shutil.copy(path, alone)
    with pytest.raises(ValueError, match=r"vocabulary\.json, which does not exist; export"):
        load(alone)
    safetensors.torch.save_file({"weight": torch.ones(2)}, alone)
    with pytest.raises(ValueError, match="expected metadata of an exported model"):
        load(alone)
    alone.write_bytes(b"other content")
    with pytest.raises(ValueError, match="expected a safetensors file"):
        load(alone)


@pytest.mark.parametrize(("format", "package"), [("onnx", "onnx"), ("safetensors", "safetensors")])
def test_missing_package_error_suggests_pip_install(make_run, monkeypatch, capfd, format, package):
    run = make_run()
    for name in [name for name in sys.modules if name.startswith("seqcells.lab.export.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    error = failure(capfd, run.folder, "--format", format)
    assert f"expected the module {package}, which is not installed; run: pip install '" in error
    assert error.endswith("[export]'\n")
