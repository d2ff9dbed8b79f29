"""The README's Python runs as it stands."""

import re
from pathlib import Path

import pytest
import torch

import seqcells

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


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


def test_there_is_python_to_run():
    assert len(BLOCKS) >= 4
