"""Errors of `Stepper`: modules, inputs, states and rows."""

import pytest
import torch
from cell_table import F64, H, I, Leaky, make_cell
from parity import random, same
from test_stepper import Blend, Scaled

import seqcells
from seqcells import Recurrent, Stepper
from seqcells.kernels import cpu

pytestmark = pytest.mark.skipif(bool(cpu.unavailable()), reason="no native code on this machine")


def narrow():
    return seqcells.Stack([make_cell("gru"), make_cell("gru", H + 1)])


def hooked():
    cell = make_cell("gru")
    cell.register_forward_hook(lambda *_: None)
    return cell


class Odd(Blend):
    def activate(self, from_input, from_hidden, state):
        gate, candidate = (from_input + from_hidden).chunk(2, dim=-1)
        return torch.special.bessel_j0(gate) * candidate, (gate, candidate)


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (lambda: torch.nn.LSTM(3, 4), TypeError, "got LSTM; use a cell, Recurrent, RNN, GRU"),
        (lambda: "lstm", TypeError, "expected a recurrent module, got str"),
        (lambda: seqcells.LSTM(3, 4, bidirectional=True), ValueError, "bidirectional=True"),
        (lambda: seqcells.Stack([(make_cell("gru"),) * 2]), ValueError, "a bidirectional layer"),
        (lambda: Recurrent(make_cell("gru"), reverse=True), ValueError, "got reverse=True"),
        (lambda: Recurrent(Leaky()), ValueError, "got Leaky, .* write .* as a GatedCell"),
        (hooked, ValueError, "GRUCell, which is called at every step"),
        (lambda: Odd(3, 4), ValueError, "expected a module that the C.. kernels support"),
        (lambda: seqcells.Zoneout(make_cell("gru"), 0.1), ValueError, r"call .eval\(\)"),
        (lambda: seqcells.LSTM(3, 4, 2, dropout=0.1), ValueError, r"call .eval\(\)"),
        (lambda: seqcells.GRU(3, 4).bfloat16(), ValueError, "expected float32 or float64, got"),
        (lambda: seqcells.GRU(3, 4, device="meta"), ValueError, "CPU"),
        (lambda: Scaled(make_cell("gru"), 1).eval(), ValueError, "got noise per step"),
        (narrow, ValueError, "expected layer 1 with 5 inputs in torch.float64, .* got 6"),
    ],
)
def test_invalid_module(module, error, message):
    with pytest.raises(error, match=message):
        Stepper(module())


def test_invalid_arguments():
    cell = make_cell("gru")
    for batch_size in (0, -1, 1.0, True, None):
        with pytest.raises(ValueError, match="batch_size: expected an integer of at least 1"):
            Stepper(cell, batch_size)
    one, two = Stepper(cell), Stepper(cell, 2)
    for stepper, input in (
        (one, random(2, I)),
        (one, random(I + 1)),
        (one, random(1, 1, I)),
        (one, random(I).float()),
        (two, random(I)),
        (two, random(2, I, dtype=torch.float32)),
        (one, torch.zeros(I, dtype=torch.int64)),
        (one, torch.zeros(I, dtype=F64, device="meta")),
        (one, torch.zeros(I, dtype=F64).to_sparse()),
    ):
        before = stepper.state
        with pytest.raises(ValueError, match=r"input: expected shape .*torch.float64, on the CPU"):
            stepper(input)
        same(stepper.state, before)
    with pytest.raises(TypeError, match="input: expected a tensor, got list"):
        one([0.0] * I)
    with pytest.raises(ValueError, match=r"state: expected shape \(1, 5\)"):
        one.state = random(2, H)
    with pytest.raises(TypeError, match="state: expected a tensor, got tuple"):
        one.state = (random(1, H),)
    for rows in ([2], [-1], [0.5]):
        with pytest.raises(ValueError, match="rows: expected integers from 0 to 1"):
            two.reset(rows)
    with pytest.raises(ValueError, match=r"rows: expected a mask of shape \(2,\)"):
        two.reset(torch.tensor([True]))
