"""The table of diagnostic tasks, without its trainings."""

from unittest.mock import create_autospec

import pytest

from benchmarks import diagnostics


def test_each_cell_is_configured_for_each_task(monkeypatch, capsys):
    train = create_autospec(diagnostics.train_in, return_value={"test_accuracy": 0.625})
    monkeypatch.setattr(diagnostics, "train_in", train)
    diagnostics.main(["--cells", "lstm,rhn"])
    folders = {folder.name: config.model for (folder, config), _ in train.call_args_list}
    assert len(folders) == len(diagnostics.EXPECTED) * 2
    assert folders["adding-lstm"].forget_bias == diagnostics.REMEMBERS
    assert folders["digits-rhn"].cell == "rhn"
    assert "| rhn | 62.5% | 62.5% | 62.5% | 62.5% |" in capsys.readouterr().out


def test_unknown_names_raise():
    with pytest.raises(ValueError, match="got 'gru2'"):
        diagnostics.main(["--cells", "gru,gru2"])
