"""Kernels of cells of which only one product has a bias."""

import pytest
import torch
from cell_table import F64, H, Highway, I, make_cell
from parity import backends_agree, close, compute, random

import seqcells
from seqcells.kernels import cpu, cudnn
from seqcells.recurrence import choice

pytestmark = pytest.mark.skipif(bool(cpu.unavailable()), reason="no native code on this machine")
BIASES = ("bias_ih", "bias_hh")


class OneBias(Highway):
    """A user's cell that declares one bias only."""

    def parameter_shapes(self):
        return super().parameter_shapes() | {self.missing: None}


def one_bias(kind, missing):
    if kind == "own":
        return type("Own", (OneBias,), {"missing": missing})(I, H, dtype=F64)
    cell = make_cell(kind)
    setattr(cell, missing, None)  # removed from a cell that had both
    return cell


@pytest.mark.parametrize("missing", BIASES)
@pytest.mark.parametrize("kind", ["own", "lstm", "gru", "gru_reset_before", "layer_norm_lstm"])
def test_a_missing_bias_is_zero(kind, missing):
    cell = one_bias(kind, missing)
    for steps in (1, 9):  # weights are read in place, or packed
        inputs = random(steps, 3, I)
        backends_agree(seqcells.Recurrent(cell), inputs)
        found = compute(seqcells.Recurrent(cell), inputs, "auto")  # the path of plain calls
        expected = compute(seqcells.Recurrent(cell), inputs, "reference")
        for name, value in expected.items():
            close(found[name], value)
    stepper, input = seqcells.Stepper(cell), random(I)
    with torch.no_grad(), seqcells.backend("reference"):
        close(stepper(input), cell.output(cell(input)))


@pytest.mark.parametrize("missing", BIASES)
def test_a_layer_with_one_bias(missing):
    layer = seqcells.GRU(I, H, dtype=F64)
    setattr(layer, f"{missing}_l0", None)
    backends_agree(layer, random(9, 3, I))


@pytest.mark.parametrize("missing", BIASES)
def test_cudnn_refuses_one_bias(missing, monkeypatch):
    monkeypatch.setattr(cudnn, "unavailable", lambda: None)
    monkeypatch.setattr(choice, "refusal", lambda name, call: choice.BACKENDS[name].refuses(call))
    with seqcells.backend("cudnn"), pytest.raises(RuntimeError, match="takes no single bias"):
        seqcells.Recurrent(one_bias("lstm", missing))(random(2, 1, I))
