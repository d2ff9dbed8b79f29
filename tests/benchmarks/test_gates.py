"""Test that the picture of the gates is written to the path that the user gives."""

import functools
from pathlib import Path

import pytest
import torch

from benchmarks import gates
from seqcells.lab.model_config import ModelConfig
from seqcells.lab.text.corpus import make_corpus
from seqcells.lab.training import Config, Run, TrainingConfig, train


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Return the folder of a small run, and change to an empty folder."""
    small = functools.partial(make_corpus, train=40, validation=20, test=20)
    monkeypatch.setattr("seqcells.lab.training.tasks.reviews.make_corpus", small)
    config = Config(
        model=ModelConfig(embedding_size=4, hidden_size=3, bidirectional=True),
        training=TrainingConfig(epochs=1, threads=1),
        run=str(tmp_path / "run"),
    )
    threads = torch.get_num_threads()
    train(Run.create(config, "unused"))
    torch.set_num_threads(threads)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return config.run


@pytest.mark.parametrize("output", [[], ["--output", "pictures/gates.svg"]])
def test_the_picture_is_where_the_last_line_says(run, output, capsys):
    capsys.readouterr()
    gates.main([run, "--text", "It is good, not bad.", *output])
    path = output[-1] if output else "build/trace_gates.svg"
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"Picture: {path}"
    words = ["it", "is", "good", ",", "not", "bad", "."]
    assert [line.split()[-1] for line in lines[2:9]] == words
    assert list(map(str, Path().rglob("*.*"))) == [path]
    assert "<svg" in Path(path).read_text()
