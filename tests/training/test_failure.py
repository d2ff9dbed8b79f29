"""The line that ends a failed command, with and without torchrun."""

import json

import pytest

from seqcells.lab.training import command


def fail(message):
    def main(_):
        raise ValueError(message)

    return command(main, [])


def test_one_process_prints_every_error(monkeypatch, capfd):
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    assert [fail("wrong"), fail("wrong")] == [2, 2]
    assert capfd.readouterr() == ("", "error: wrong\n" * 2)


@pytest.mark.parametrize("ranks", [(0, 1, 2), (1, 0)])
def test_processes_print_the_same_error_once(ranks, monkeypatch, tmp_path, capfd):
    """Each rank records the error for torchrun; an error of one rank alone is printed too."""
    for rank in ranks:
        file = tmp_path / str(rank) / "error.json"
        file.parent.mkdir()
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
        assert fail("wrong") == 2
        assert json.loads(file.read_text())["message"]["message"] == "error: wrong"
    assert fail("another") == 2
    assert capfd.readouterr() == ("", "error: wrong\nerror: another\n")


def test_a_missing_folder_of_torchrun_loses_no_error(monkeypatch, tmp_path, capfd):
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "gone" / "0" / "error.json"))
    assert fail("wrong") == 2
    assert capfd.readouterr().err == "error: wrong\n"
