"""Test `Stepper` against the readable loop of the modules that it runs."""

import copy
import pickle

import pytest
import torch
from cell_table import CELLS, F64, LAYERS, MODIFIED, H, I, make_cell, make_layers
from cell_table import make_modified as modified
from parity import close, random, same

import seqcells
from seqcells import Recurrent, Stepper, backend
from seqcells.kernels import cpu
from seqcells.kernels.cpu import library

pytestmark = pytest.mark.skipif(bool(cpu.unavailable()), reason="no native code on this machine")
T = 6


class Blend(seqcells.GatedCell):
    """A user's own cell, with a constant that may change."""

    gates = ("gate", "candidate")

    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        self.slope = 1.0

    def activate(self, from_input, from_hidden, state):
        gate, candidate = (from_input + from_hidden).chunk(2, dim=-1)
        gate, candidate = torch.sigmoid(self.slope * gate), torch.tanh(candidate)
        return gate * state + (1 - gate) * candidate, (gate, candidate)


def check(module, rows, tolerance=1e-12, sequence=None):
    """Compare a stepper with the readable loop, twice: `reset` restores the initial state."""
    module.eval()
    inputs = random(T, rows, I)
    with torch.no_grad(), backend("reference"):
        outputs, final_state = (sequence or module)(inputs)
    stepper = Stepper(module, rows)
    for _ in range(2):
        close(torch.stack([stepper(input) for input in inputs]), outputs, tolerance)
        close(stepper.state, final_state, tolerance)
        stepper.reset()
    return stepper


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("kind", CELLS)
def test_a_cell(kind, rows):
    cell = make_cell(kind)
    check(cell, rows, sequence=Recurrent(cell))


@pytest.mark.parametrize(("modifier", "kind"), MODIFIED)
def test_a_modified_cell(modifier, kind):
    recurrent = Recurrent(modified(modifier, kind))
    check(recurrent, 2)


@pytest.mark.parametrize("options", [{}, {"num_layers": 3}, {"num_layers": 2, "dropout": 0.5}])
@pytest.mark.parametrize("kind", LAYERS)
def test_layers(kind, options):
    check(make_layers(kind, **options)[0], 2)


def test_a_stack():
    double = {"dtype": F64}
    cells = [
        seqcells.GRUCell(I, H, **double),
        Blend(H, H, **double),
        seqcells.MGUCell(H, 17, **double),
    ]
    cells.append(seqcells.LSTMCell(17, H, proj_size=3, **double))
    for residual in (False, True):
        check(seqcells.Stack(cells, residual=residual), 3)


@pytest.mark.parametrize("number", range(len(library.instruction_sets())))
@pytest.mark.parametrize("hidden", [16, 23])
def test_instruction_sets_and_single_precision(number, hidden, monkeypatch):
    monkeypatch.setattr(library, "variant", number)
    cell = seqcells.LSTMCell(40, hidden)
    inputs = torch.randn(T, 1, 40)
    with torch.no_grad(), backend("reference"):
        outputs, _ = Recurrent(cell)(inputs)
    stepper = Stepper(cell)
    close(torch.stack([stepper(input) for input in inputs]), outputs, 1e-5)


def test_one_row_may_have_no_batch_dimension():
    stepper = Stepper(make_cell("gru"))
    inputs = random(T, I)
    rows = [stepper(input.unsqueeze(0)) for input in inputs]
    stepper.reset()
    for input, row in zip(inputs, rows):
        output = stepper(input)
        assert output.shape == (H,)
        same(output, row[0])


def test_inputs_may_be_views():
    stepper = Stepper(make_cell("lstm"), 2)
    inputs = random(I, 2).T
    strided = stepper(inputs)
    stepper.reset()
    same(stepper(inputs.contiguous()), strided)
    stepper.reset()
    negated = torch.complex(torch.zeros(2, I, dtype=F64), -inputs).conj().imag
    assert negated.is_neg()
    same(stepper(negated), strided)
    stepper.reset()
    same(stepper(torch._neg_view(-inputs.contiguous())), strided)  # contiguous, unlike `imag`


def test_outputs_share_no_memory_and_have_no_gradients():
    stepper = Stepper(make_cell("gru"))
    first = stepper(random(I))
    before = first.clone()
    second = stepper(random(I).requires_grad_())
    same(first, before)
    assert not second.requires_grad


def test_rows_are_reset_alone():
    cell = seqcells.LearnedState(make_cell("lstm"))
    torch.nn.init.normal_(cell.start_hidden)
    stepper = Stepper(cell, 3)
    fresh = stepper.state
    stepper(random(3, I))
    before = stepper.state
    for rows in (torch.tensor([False, True, False]), [1], torch.tensor([1])):
        stepper.state = before
        stepper.reset(rows)
        for found, old, new in zip(stepper.state, before, fresh):
            same(found, torch.stack([old[0], new[1], old[2]]))
    stepper.state = before
    stepper.reset([])
    same(stepper.state, before)


@pytest.mark.parametrize(
    "module",
    [
        lambda: seqcells.LSTM(I, H, 2, proj_size=3, dtype=F64),
        lambda: seqcells.GRU(I, H, 2, dtype=F64),
        lambda: make_cell("lstm"),
        lambda: Recurrent(make_cell("rnn_tanh")),
        lambda: seqcells.Stack([make_cell("lstm"), make_cell("gru", H)]),
    ],
)
def test_a_state_continues_a_sequence(module):
    module = module()
    sequence = Recurrent(module) if isinstance(module, seqcells.GatedCell) else module
    inputs = random(T, 2, I)
    with torch.no_grad():
        _, middle = sequence(inputs[:3])
        outputs, final_state = sequence(inputs[3:], middle)
    stepper = Stepper(module, 2)
    stepper.state = middle
    same(stepper.state, middle)
    assert type(stepper.state) is type(middle)
    close(torch.stack([stepper(input) for input in inputs[3:]]), outputs)
    close(stepper.state, final_state)


def test_refresh_reads_weights_and_equations():
    cell = Blend(I, H, dtype=F64)
    stepper, input = Stepper(cell, 2), random(2, I)
    stepper(input)
    state = stepper.state
    for change in (
        lambda: cell.weight_hh.data.mul_(2),
        lambda: setattr(cell, "bias_ih", torch.nn.Parameter(random(2 * H))),
        lambda: setattr(cell, "slope", 3.0),
    ):
        old = stepper(input)
        stepper.state = state
        change()
        stepper.refresh()
        same(stepper.state, state)
        new = stepper(input)
        with torch.no_grad(), backend("reference"):
            close(new, cell(input, state))
        assert not torch.equal(old, new)
        stepper.state = state


def test_refresh_refuses_other_sizes():
    stack = seqcells.Stack([make_cell("gru"), make_cell("gru", H)])
    stepper = Stepper(stack)
    stack.layers[1].cell = make_cell("gru", H, 2 * H)
    with pytest.raises(ValueError, match="create a new stepper"):
        stepper.refresh()


class Scaled(seqcells.modifiers.Modifier):
    """Constant factors in evaluation mode, per sequence or per step."""

    def __init__(self, cell, *steps):
        super().__init__(cell)
        self.steps = steps

    def draw(self, state, steps):
        factor = state.new_full((*self.steps, *state.shape), 0.7)
        return seqcells.Noise(hidden=factor, candidate=factor / 2)


def test_constant_factors():
    check(Recurrent(Scaled(make_cell("gru"))), 2)


def test_a_state_is_converted_under_autocast():
    stepper = Stepper(make_cell("gru", dtype=torch.float32))
    with torch.autocast("cpu"):
        stepper.state = torch.ones(1, H, dtype=torch.bfloat16)
    same(stepper.state, torch.ones(1, H))


def test_steppers_are_not_copied():
    stepper = Stepper(make_cell("gru"))
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied"):
            duplicate(stepper)
