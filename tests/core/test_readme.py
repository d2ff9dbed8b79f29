"""Test that the Python blocks of the README and of the guide run."""

import re
from pathlib import Path

import pytest
import torch

import seqcells

README = Path(__file__).parents[2] / "README.md"
PAGES = sorted((README.parent / "docs").glob("*.md"))
LONG = ("own_cell", "training")  # slow: they train
NEED_RUNS = ("export", "prediction")  # run by tests/export and tests/prediction


def blocks(page, language="python"):
    found = re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [f"\n{block}" for block in found]


class Reader(torch.nn.Module):
    """The `model` of pages that use one without defining it."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(50, 8)
        self.recurrent = seqcells.Recurrent(seqcells.GRUCell(8, 16))

    def forward(self, tokens, lengths):
        return self.recurrent(self.embedding(tokens), lengths=lengths)[1]


def predefined(features=8):
    """Return the names that the README and the pages use without defining them."""
    torch.manual_seed(0)
    return {
        "torch": torch,
        "seqcells": seqcells,
        "torch_lstm": torch.nn.LSTM(100, 128, num_layers=2, bidirectional=True),
        "inputs": torch.randn(40, 3, features),
        "lengths": [40, 7, 23],
        "resets": torch.zeros(40, 3, dtype=torch.bool),
        "tokens": torch.randint(50, (40, 3)),
        "model": Reader(),
    }


README_BLOCKS = blocks(README)


@pytest.mark.parametrize("number", range(len(README_BLOCKS)))
def test_block_of_the_readme_runs(number):
    exec(README_BLOCKS[number], predefined(features=100 if number == 0 else 8))


def run_page(name):
    """Run all blocks of a page, which build on each other; return its names."""
    names = predefined()
    for block in blocks(README.parent / "docs" / f"{name}.md"):
        exec(block, names)
    return names


@pytest.mark.parametrize("name", [page.stem for page in PAGES if page.stem not in LONG + NEED_RUNS])
def test_page_runs(name):
    run_page(name)


@pytest.mark.slow
def test_own_cell_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SEQCELLS_CACHE", str(tmp_path))
    assert run_page("own_cell")["loss"] < 0.01
    assert "ms a step" in capsys.readouterr().out


def test_pages_have_python_blocks():
    assert len(README_BLOCKS) >= 4
    assert len(PAGES) >= 10
    assert sum(bool(blocks(page)) for page in PAGES) >= 8
