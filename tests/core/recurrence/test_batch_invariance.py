"""Results of a sequence in different batches, bit for bit."""

import pytest
import torch
from cell_table import CELLS, make_cell
from hypothesis import given, settings
from hypothesis import strategies as st

import seqcells
from seqcells.kernels.cpu import library

STEPS, BATCH, SIZE, HIDDEN = 9, 11, 20, 48
LENGTHS = torch.tensor([9, 4, 1, 7, 9, 2, 8, 3, 9, 5, 6])


def of_type(module, dtype):
    return module.to(dtype).requires_grad_(False)


def parts_of(state):
    return state if isinstance(state, tuple) else (state,)


@st.composite
def batches(draw):
    """Draw rows, a number of paddings, a step to divide at, and a number of threads."""
    rows = draw(st.lists(st.integers(0, BATCH - 1), min_size=1, max_size=BATCH))
    return rows, draw(st.integers(0, 3)), draw(st.integers(1, STEPS - 1)), draw(st.integers(1, 2))


def check_rows(recurrent, inputs, lengths, batch):
    """Compare some rows, with other padding and in two calls, with all rows in one call."""
    rows, padding, middle, threads = batch
    outputs, final = recurrent(inputs, lengths=lengths)
    some, own = inputs[:, rows], lengths[rows]
    torch.set_num_threads(threads)
    padded = torch.cat([some, torch.randn_like(some[:padding])])
    again, end = recurrent(padded, lengths=own)
    assert torch.equal(again[:STEPS], outputs[:, rows])
    first, state = recurrent(some[:middle])
    second, _ = recurrent(some[middle:], state)
    whole = own == STEPS
    assert torch.equal(torch.cat([first, second])[:, whole], outputs[:, rows][:, whole])
    for part, expected in zip(parts_of(end), parts_of(final)):
        assert torch.equal(part, expected[rows])


def check_batches(cell, examples):
    recurrent = seqcells.Recurrent(cell)
    inputs = torch.randn(STEPS, BATCH, SIZE, dtype=next(cell.parameters()).dtype)

    @given(batch=batches())
    @settings(max_examples=examples)
    def check(batch):
        with seqcells.batch_invariant():
            check_rows(recurrent, inputs, LENGTHS, batch)

    check()


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", CELLS)
def test_rows_have_the_same_bits_in_any_batch(kind):
    check_batches(of_type(make_cell(kind, SIZE, HIDDEN), torch.float32), examples=5)


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [4, 16, 33, 100, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", CELLS)
def test_rows_of_any_size(kind, dtype, hidden):
    check_batches(of_type(make_cell(kind, SIZE, hidden), dtype), examples=20)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_gradients_of_inputs_have_the_same_bits(kind):
    recurrent = seqcells.Recurrent(make_cell(kind, SIZE, HIDDEN).float())
    inputs, weights = torch.randn(STEPS, BATCH, SIZE), torch.randn(STEPS, BATCH, HIDDEN)

    def gradient(rows):
        leaf = inputs[:, list(rows)].requires_grad_()
        outputs, _ = recurrent(leaf, lengths=LENGTHS[list(rows)])
        return torch.autograd.grad((outputs * weights[:, list(rows)]).sum(), leaf)[0]

    with seqcells.batch_invariant():
        expected = gradient(range(BATCH))
        for rows in ([3], [8, 2], [1, 4, 6, 0, 9]):
            assert torch.equal(gradient(rows), expected[:, rows])


def test_a_stepper_continues_with_the_same_bits():
    layer = of_type(seqcells.LSTM(SIZE, HIDDEN), torch.float32)
    inputs = torch.randn(STEPS, BATCH, SIZE)
    with seqcells.batch_invariant():
        outputs, _ = layer(inputs)
        stepper = seqcells.Stepper(layer.eval())
        for step in range(STEPS):
            assert torch.equal(stepper(inputs[step, 0]), outputs[step, 0])


def test_single_steps_have_the_same_bits():
    cell = of_type(seqcells.GRUCell(SIZE, HIDDEN), torch.float32)
    inputs, state = torch.randn(BATCH, SIZE), torch.randn(BATCH, HIDDEN)
    with seqcells.batch_invariant():
        expected = cell(inputs, state)
        assert torch.equal(cell(inputs[4:5], state[4:5]), expected[4:5])
        outputs, _ = seqcells.Recurrent(cell)(inputs.unsqueeze(0), state)
        assert torch.equal(outputs[0], expected)


def test_the_context_ends_and_can_be_nested():
    loaded = library.library()
    with seqcells.batch_invariant():
        with seqcells.batch_invariant():
            pass
        assert loaded.seqcells_set_path(library.PACKED) == library.PACKED
    assert loaded.seqcells_set_path(0) == 0


def test_differs_without_the_context():
    """Short calls add in another order: the tests above would fail without the context."""
    layer = of_type(seqcells.LSTM(64, 64), torch.float32)
    inputs = torch.randn(1, 64, 64)
    assert not torch.equal(layer(inputs)[0][:, :1], layer(inputs[:, :1])[0])


def test_a_cell_without_a_kernel_raises():
    class Rounded(seqcells.GRUCell):
        def step(self, weights, from_input, state):
            state, gates = super().step(weights, from_input, state)
            return state.round(decimals=1), gates

    recurrent = seqcells.Recurrent(of_type(Rounded(4, 4), torch.float32))
    with (
        seqcells.batch_invariant(),
        pytest.raises(RuntimeError, match=r"backend\('cpu'\) cannot run this"),
    ):
        recurrent(torch.randn(3, 2, 4))
