"""What an earlier version saved still loads, and computes the same."""

from pathlib import Path

import pytest
import torch

import seqcells

SAVED = Path(__file__).parents[1] / "saved"
PREDICTED = [0.50392628, 0.50329852]


def test_a_state_dict():
    saved = torch.load(SAVED / "stack.pt")
    peephole = seqcells.Zoneout(seqcells.LearnedState(seqcells.PeepholeLSTMCell(8, 4)), 0.1)
    pair = seqcells.GRUCell(3, 4), seqcells.LayerNormGRUCell(3, 4)
    stack = seqcells.Stack([pair, peephole, seqcells.MGUCell(4, 3, reset_after=False)]).eval()
    stack.load_state_dict(saved["weights"])
    outputs, _ = stack(saved["inputs"], lengths=saved["lengths"])
    torch.testing.assert_close(outputs, saved["outputs"])


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_an_exported_program(backend):
    """Among its kernels are a cell with parameters, one written by hand, and a user's own."""
    saved = torch.load(SAVED / "program_outputs.pt")
    program = torch.export.load(SAVED / "program.pt2").module()
    with seqcells.backend(backend):
        outputs = program(saved["inputs"], saved["lengths"])
    torch.testing.assert_close(outputs, saved["outputs"])


def test_a_run_predicts():
    found = seqcells.load(SAVED / "run").predict(["not bad at all", "a good film"])
    torch.testing.assert_close(found, torch.tensor(PREDICTED))
