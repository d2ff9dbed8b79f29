"""Modules that `to_stateful_onnx` refuses."""

import pytest
import torch
from recurrent_modules import H, I
from torch import nn

import seqcells
from seqcells import Zoneout
from seqcells.lab.export.stateful import to_stateful_onnx


@pytest.mark.parametrize(
    ("module", "match"),
    [
        (seqcells.LSTM(I, H, bidirectional=True), "got LSTM with a backward direction.*layers_to"),
        (
            seqcells.Stack([(seqcells.GRUCell(I, H), seqcells.GRUCell(I, H))]),
            "got Stack with a backward direction.*use a unidirectional module",
        ),
        (
            seqcells.Recurrent(seqcells.GRUCell(I, H), reverse=True),
            "got Recurrent with a backward direction",
        ),
        (seqcells.Recurrent(nn.GRUCell(I, H)), "got GRUCell.*as the activate of a GatedCell"),
        (seqcells.LSTM(I, H, dtype=torch.float64), r"got torch.float64; call \.float"),
    ],
    ids=["layers", "stack", "reverse", "torch_cell", "float64"],
)
def test_unsupported_modules_raise(module, match):
    with pytest.raises(ValueError, match=match):
        to_stateful_onnx(module.eval())


def test_training_mode_raises():
    with pytest.raises(ValueError, match=r"evaluation mode, got training mode; call \.eval\(\)"):
        to_stateful_onnx(seqcells.GRUCell(I, H))
    cell = Zoneout(seqcells.GRUCell(I, H), 0.2)
    stack = seqcells.Stack([cell]).eval()
    cell.train()
    with pytest.raises(ValueError, match=r"evaluation mode, got training mode; call \.eval\(\)"):
        to_stateful_onnx(stack)


@pytest.mark.parametrize("module", [nn.Linear(2, 2).eval(), lambda input, state: input])
def test_other_modules_raise(module):
    with pytest.raises(
        TypeError, match=r"expected a recurrent module, got .*use a cell, Recurrent"
    ):
        to_stateful_onnx(module)
