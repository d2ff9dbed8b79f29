"""Saved files load and give the same results, those of an earlier version too."""

import io
from pathlib import Path

import pytest
import torch
from recurrent_modules import SeveralAtOnce, Staged

import seqcells
from tests.versions import since

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


@since("2.8", "older versions cannot read the archive of an exported program")
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_exported_program(backend):
    """The program has a cell with parameters, a late product and a user-defined cell."""
    saved = torch.load(SAVED / "program_outputs.pt")
    program = torch.export.load(SAVED / "program.pt2").module()
    with seqcells.backend(backend):
        outputs = program(saved["inputs"], saved["lengths"])
    torch.testing.assert_close(outputs, saved["outputs"])


class Outputs(torch.nn.Module):
    """The outputs of a stack, without its state."""

    def __init__(self, stack):
        super().__init__()
        self.stack = stack

    def forward(self, inputs):
        return self.stack(inputs)[0]


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_exported_program_with_late_products(backend):
    """Recorded programs are stored as text, with the number of gates that read the input."""
    cells = [Staged(3, 4), seqcells.LEMCell(4, 4), SeveralAtOnce(4, 5), seqcells.RHNCell(5, 4)]
    module = Outputs(seqcells.Stack([*cells, seqcells.RHNCell(4, 4, depth=2)]).eval())
    inputs, file = torch.randn(6, 2, 3), io.BytesIO()
    torch.export.save(torch.export.export(module, (inputs,), strict=False), file)
    file.seek(0)
    program = torch.export.load(file)
    assert "inputs 2" in str(program.graph)
    with torch.no_grad(), seqcells.backend(backend):
        outputs = program.module()(inputs)
    with torch.no_grad(), seqcells.backend("reference"):
        expected = module(inputs)
    torch.testing.assert_close(outputs, expected)


def test_run_predicts():
    predicted = seqcells.load(SAVED / "run").predict(["not bad at all", "a good film"])
    torch.testing.assert_close(predicted, torch.tensor(PREDICTED))
