"""The Python of the README and of the pages runs as it stands."""

import re
from pathlib import Path

import pytest
import torch

import seqcells

README = Path(__file__).parents[2] / "README.md"
DOCS = README.parent / "docs"


def blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


BLOCKS = blocks(README) + blocks(DOCS / "trace.md") + blocks(DOCS / "cells.md")[:1]


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block_runs(number):
    features = 100 if number == 0 else 8
    names = {
        "torch": torch,
        "seqcells": seqcells,
        "torch_lstm": torch.nn.LSTM(100, 128, num_layers=2, bidirectional=True),
        "inputs": torch.randn(40, 3, features),
        "lengths": [40, 7, 23],
        "resets": torch.zeros(40, 3, dtype=torch.bool),
    }
    exec(BLOCKS[number], names)


@pytest.mark.slow
def test_the_walk_through_of_a_new_cell_runs(tmp_path, monkeypatch, capsys):
    """Its blocks build on each other."""
    monkeypatch.setenv("SEQCELLS_CACHE", str(tmp_path))
    names = {}
    for block in blocks(DOCS / "own_cell.md"):
        exec(block, names)
    assert names["loss"] < 0.01
    assert "ms a step" in capsys.readouterr().out


def test_there_is_python_to_run():
    assert len(BLOCKS) >= 4
