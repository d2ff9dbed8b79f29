"""Training on the IMDB reviews in `$SEQCELLS_IMDB`; skipped if it is not set."""

import os

import pytest

from seqcells.lab.training import Run, command

SETTINGS = """
data: {source: imdb, max_tokens: 100}
model: {kind: words, embedding_size: 16}
training: {epochs: 1, batch_size: 64, learning_rate: 0.02, warmup: 0.0, threads: 1}
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("SEQCELLS_IMDB"), reason="needs $SEQCELLS_IMDB")
def test_words_model_is_better_than_chance(train_main, tmp_path, capsys):
    config = tmp_path / "imdb_words.yaml"
    config.write_text(SETTINGS)
    assert command(train_main, [str(config), "--run", str(tmp_path / "run")]) == 0
    result = Run.open(tmp_path / "run").read_result()
    assert 0.65 < result["test_accuracy"] < 0.9
    assert "--training.seed 1" in capsys.readouterr().out
