"""Backward compatibility: files of an earlier version load and give the same results."""

from pathlib import Path

import pytest
import torch

import seqcells

SAVED = Path(__file__).parents[1] / "saved"
PREDICTED = [0.50392628, 0.50329852]


def test_state_dict():
    saved = torch.load(SAVED / "stack.pt")
    peephole = seqcells.Zoneout(seqcells.LearnedState(seqcells.PeepholeLSTMCell(8, 4)), 0.1)
    pair = seqcells.GRUCell(3, 4), seqcells.LayerNormGRUCell(3, 4)
    stack = seqcells.Stack([pair, peephole, seqcells.MGUCell(4, 3, reset_after=False)]).eval()
    stack.load_state_dict(saved["weights"])
    outputs, _ = stack(saved["inputs"], lengths=saved["lengths"])
    torch.testing.assert_close(outputs, saved["outputs"])


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_exported_program(backend):
    """The program has a cell with parameters, a handwritten kernel and a user-defined cell."""
    saved = torch.load(SAVED / "program_outputs.pt")
    program = torch.export.load(SAVED / "program.pt2").module()
    with seqcells.backend(backend):
        outputs = program(saved["inputs"], saved["lengths"])
    torch.testing.assert_close(outputs, saved["outputs"])


def test_run_predicts():
    predicted = seqcells.load(SAVED / "run").predict(["not bad at all", "a good film"])
    torch.testing.assert_close(predicted, torch.tensor(PREDICTED))
