"""`seqcells export --format c`: the folder of a run's model."""

import importlib
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from c_code import Net, error_of, self_test

from seqcells import quantize
from seqcells.kernels import cpu
from seqcells.lab.cli import build_parser, main
from seqcells.lab.export import WEIGHTS, c, export_run
from seqcells.lab.prediction.stream import Stream
from seqcells.lab.training import load_best, task_of
from seqcells.lab.training.config import TASK_NAMES

pytestmark = [
    pytest.mark.skipif(bool(cpu.unavailable()), reason="no native code on this machine"),
    pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("cc")), reason="needs gcc"),
]
TEXT = "it is not good , bad . zzz"


def export(run, *arguments):
    return main(["export", str(run.folder), "--format", "c", *map(str, arguments)])


def failure(capfd, run, *arguments):
    assert export(run, *arguments) == 2
    output, error = capfd.readouterr()
    assert output == ""
    assert error.count("\n") == 1
    return error


def test_command(make_run, capfd):
    """The printed command passes, and the code agrees with `Stream`, which runs in PyTorch."""
    run = make_run("a run", cell="gru", ngrams=2, ngram_buckets=50, readout=["last", "mean"])
    assert export(run) == 0
    folder, line = run.folder / "model", capfd.readouterr().out
    assert line.startswith(f"C code: {folder}; test it: cd '{folder}' && cc -O3 ")
    command = line.partition("test it: ")[2]
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("passed") == 2
    vocabulary = run.load_vocabulary()
    net = Net(folder, name="model", extra=["model_words.c"])
    stream = Stream(load_best(run, vocabulary), vocabulary)
    for word in TEXT.split():
        logit = net.step(net.function("number")(word.encode()))
        assert logit.sigmoid().item() == pytest.approx(stream.read(word), rel=1e-5)


def test_programs_of_the_guide(make_run, tmp_path, monkeypatch, capfd):
    """Python, onnxruntime and C print the same probabilities for the text of the page."""
    text = (Path(__file__).parents[2] / "docs" / "streams.md").read_text(encoding="utf-8")
    text = text.partition("## A trained classifier")[2]
    kinds = ("python", "c", "sh")
    python, (program,), (exports, compilation) = (
        re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL) for kind in kinds
    )
    make_run("runs/NAME", cell="gru", ngrams=2, ngram_buckets=50, readout=["last", "max"])
    monkeypatch.chdir(tmp_path)
    for line in exports.splitlines():
        assert main(shlex.split(line)[1:]) == 0
    (tmp_path / "sentiment" / "main.c").write_text(program)
    capfd.readouterr()
    printed = []
    for block in python:
        exec(block, {})
        printed.append(capfd.readouterr().out)
    ended = subprocess.run(["sh", "-ec", compilation], capture_output=True, text=True)
    assert ended.stderr == ""
    printed.append(ended.stdout)
    tables = [[line.split() for line in output.splitlines()] for output in printed]
    assert len(tables) == 3
    for table in tables:
        assert [word for _, word in table] == ["it", "is", "good", ",", "not", "bad", "."]
        values, expected = ([float(row[0]) for row in rows] for rows in (table, tables[0]))
        assert values == pytest.approx(expected, abs=0.0101)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_weights_in_a_file(make_run, tmp_path, monkeypatch):
    run = make_run()
    sources = [f"net{suffix}" for suffix in (".c", ".h", "_test.c", "_words.c", "_words.h")]
    for number, (arguments, limit) in enumerate(
        [((), 1 << 20), ((), 100), (("--weights", "file"), 1 << 20), (("--weights=embedded",), 100)]
    ):
        monkeypatch.setattr(c, "EMBEDDED", limit)
        folder = tmp_path / str(number) / "net"
        assert export(run, *arguments, "--output", folder) == 0
        in_file = number in (1, 2)
        binary = ["net.bin"] if in_file else []
        assert names(folder) == sorted([*sources, *binary, "vocabulary.json"])
        assert ("net_open" in (folder / "net.h").read_text()) == in_file
    assert (folder / "vocabulary.json").read_bytes() == run.words.read_bytes()


@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
def test_quantized_weights(make_run, tmp_path, dtype, capfd):
    """The outputs are those of the quantized model; embeddings and head stay in float32."""
    run, folder = make_run(cell="gru", readout=["last", "mean"]), tmp_path / "net"
    assert export(run, "--quantize", dtype, "--output", folder) == 0
    command = capfd.readouterr().out.partition("test it: ")[2].replace("-O3", "-O1")
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    number = re.escape(f" weights in {dtype}.")
    assert re.search(rf"// \d+ weights in float32, \d+{number}", (folder / "net.h").read_text())
    vocabulary = run.load_vocabulary()
    stream = Stream(quantize(load_best(run, vocabulary), getattr(torch, dtype)), vocabulary)
    net = Net(folder, extra=["net_words.c"])
    for word in TEXT.split()[:2]:
        logit = net.step(net.function("number")(word.encode()))
        assert logit.sigmoid().item() == pytest.approx(stream.read(word), rel=1e-5)


@pytest.mark.parametrize("format", ["safetensors", "torch-export", "onnx"])
def test_other_formats_do_not_quantize(make_run, capfd, format):
    run = make_run()
    error = failure(capfd, run, "--format", format, "--quantize", "int8")
    assert f"quantize: expected the format c, got {format}; use --format c, or export" in error
    with pytest.raises(ValueError, match="quantize: expected one of int8, bfloat16, got 'int4'"):
        export_run(run.folder, "c", quantize="int4")
    assert not list(run.folder.glob("model*"))


@pytest.mark.parametrize("module", ["weights", "program", "onnx", "streaming"])
def test_other_formats_refuse_quantized_models(make_run, tmp_path, module):
    run = make_run()
    model = quantize(load_best(run, run.load_vocabulary()))
    save = importlib.import_module(f"seqcells.lab.export.{module}").save
    with pytest.raises(ValueError, match=r"quantized to int8; export the module before quantize"):
        save(model, run.config, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_help_states_the_limit():
    text = " ".join(build_parser()[1]["export"].format_help().split())
    assert f"up to {c.EMBEDDED >> 20} MiB" in text


@pytest.mark.slow
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("task", TASK_NAMES)
def test_every_task(make_run, task, weights, tmp_path):
    run = make_run(task=task, cell="min_gru", modifiers={"zoneout": 0.1}, num_layers=2)
    folder = tmp_path / "net"
    if task == "dates":
        with pytest.raises(ValueError, match="got EncoderDecoder; use safetensors"):
            export_run(run.folder, "c", folder, weights=weights)
        assert not folder.exists()
        return
    assert export_run(run.folder, "c", folder, weights=weights) == folder
    assert ("vocabulary.json" in names(folder)) == task_of(run.config).reads_text
    command = "gcc -std=c99 -Wall -Wextra -Wpedantic -Werror net*.c -lm -o net_test"
    subprocess.run(["sh", "-c", command], cwd=folder, check=True)
    self_test(folder)


@pytest.mark.slow
def test_run_with_layers_of_torch(make_run):
    run = make_run(backend="torch", num_layers=2)
    net, tokens = Net(export_run(run.folder, "c"), name="model"), torch.tensor([2, 3, 4])
    with torch.no_grad():
        model = load_best(run, run.load_vocabulary())
        expected = model(tokens.unsqueeze(1), torch.tensor([3]))
    assert error_of(net.run(tokens.int())[-1], expected) < 1e-5


def test_unsupported_exports_are_one_line(make_run, tmp_path, capfd):
    run = make_run(bidirectional=True)
    assert "train with model.bidirectional false" in failure(capfd, run)
    assert "got AveragedWords; use safetensors" in failure(capfd, make_run("words", kind="words"))
    assert "got EncoderDecoder; use safetensors" in failure(capfd, make_run("d", task="dates"))
    assert not (run.folder / "model").exists()
    run = make_run("one")
    for name in ("my-model", "1st", "model.c"):
        error = failure(capfd, run, "--output", tmp_path / name)
        assert re.search(rf"output: expected a folder whose name is a C .* got .*{name}", error)
        assert not (tmp_path / name).exists()
    (tmp_path / "taken").write_text("")
    assert "got " + str(tmp_path / "taken") in failure(capfd, run, "--output", tmp_path / "taken")
    assert "stateful: expected the format onnx, got c" in failure(capfd, run, "--stateful")
    assert "--weights: invalid choice: 'flash'" in failure(capfd, run, "--weights", "flash")
    with pytest.raises(ValueError, match="weights: expected one of file, embedded, got 'flash'"):
        export_run(run.folder, "c", weights="flash")


@pytest.mark.parametrize("format", ["safetensors", "torch-export", "onnx"])
def test_weights_of_other_formats_are_refused(make_run, capfd, format):
    run = make_run()
    error = failure(capfd, run, "--format", format, "--weights", "file")
    assert f"weights: expected the format c, got {format}; use --format c, or export" in error
    assert not list(run.folder.glob("model*"))


def test_another_vocabulary_is_not_overwritten(make_run, tmp_path, capfd):
    first, second = make_run("first"), make_run("second", words=["<pad>", "<unk>", "it"])
    assert export(first, "--output", tmp_path / "net") == 0
    before = {name: (tmp_path / "net" / name).read_bytes() for name in names(tmp_path / "net")}
    assert capfd.readouterr().err == ""
    error = failure(capfd, second, "--output", tmp_path / "net")
    assert "choose an output in another folder" in error
    assert before == {name: (tmp_path / "net" / name).read_bytes() for name in before}
