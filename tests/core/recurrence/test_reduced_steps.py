"""Single steps of a cell in bfloat16 and under autocast."""

import pytest
import torch
from cell_table import CELLS, make_cell
from parity import leaves, random, random_state
from torch import nn

import seqcells
from seqcells.kernels import cpu
from seqcells.recurrence.brief_steps import BRIEF

pytestmark = pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable()))

B, I, H = 3, 8, 16  # noqa: E741
TORCHS = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn_tanh": nn.RNNCell}
AUTOCAST = torch.autocast("cpu", torch.bfloat16)


def step(kind, dtype=torch.float32):
    """Return a cell, an input and a state."""
    cell = make_cell(kind, I, H, dtype=torch.float32)
    state = random_state(cell, B)
    cell, input = cell.to(dtype), random(B, I, dtype=torch.float32).to(dtype)
    return cell, input, seqcells.state.map_state(lambda part: part.to(dtype), state)


@pytest.mark.parametrize("kind", CELLS)
def test_a_step_under_autocast_without_gradients_computes_in_float32(kind, ran):
    cell, input, state = step(kind)
    with torch.no_grad():
        expected = leaves(cell(input, state))
        del ran[:]
        with AUTOCAST:
            found = leaves(cell(input, state))
            second = leaves(cell(input, cell(input, state)))
    assert set(ran) == {"forward"}
    assert len(ran) == 3
    rounded = cell.built_in_kernel() in BRIEF
    assert {part.dtype for part in second} == {torch.bfloat16 if rounded else torch.float32}
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other.bfloat16() if rounded else other)


@pytest.mark.parametrize("kind", ["lstm", "rnn_tanh"])
def test_a_profiler_changes_no_bit_of_a_step_under_autocast(kind, ran):
    cell, input, state = step(kind)
    with torch.no_grad(), AUTOCAST:
        expected = leaves(cell(input, state))
        with torch.autograd.profiler.profile():
            found = leaves(cell(input, state))
    assert ran == ["forward"] * 2
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["lstm", "gru", "peephole_lstm", "rnn_tanh"])
def test_a_step_under_autocast_with_gradients_runs_pytorchs_operations(kind, ran):
    cell, input, state = step(kind)
    results = []
    for backend in ("auto", "reference"):
        cell.zero_grad()
        with AUTOCAST, seqcells.backend(backend):
            new = leaves(cell(input, state))
        sum(part.float().square().sum() for part in new).backward()
        results.append([part.detach() for part in new] + [p.grad for p in cell.parameters()])
    assert not ran
    with AUTOCAST, torch.no_grad():
        exact = leaves(cell(input, state))
    for one, other in zip(exact, results[0]):
        torch.testing.assert_close(one.float(), other.float(), atol=0.02, rtol=0)


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", TORCHS)
def test_dtypes_under_autocast_equal_torchs(kind, dtype, given, recorded):
    ours, input, state = step(kind)
    theirs = TORCHS[kind](I, H)
    theirs.load_state_dict(ours.state_dict())
    hx = None if not given else tuple(state) if kind == "lstm" else state
    with AUTOCAST, torch.set_grad_enabled(recorded):
        found, expected = leaves(ours(input.to(dtype), hx)), leaves(theirs(input.to(dtype), hx))
    assert [part.dtype for part in found] == [part.dtype for part in expected]
    for one, other in zip(found, expected):
        torch.testing.assert_close(one.float(), other.float(), atol=0.02, rtol=0)


@pytest.mark.parametrize("kind", CELLS)
def test_a_step_of_a_bfloat16_cell_equals_a_sequence_of_one(kind, ran):
    cell, input, state = step(kind, torch.bfloat16)
    with torch.no_grad():
        found = leaves(cell(input, state))
        assert ran == ["forward"]
        _, expected = seqcells.Recurrent(cell)(input.unsqueeze(0), state)
    for one, other in zip(found, leaves(expected), strict=True):
        assert one.dtype is torch.bfloat16
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["lstm", "gru", "indrnn_relu"])
def test_a_step_of_a_bfloat16_cell_errs_less_than_the_loop(kind):
    cell, input, state = step(kind, torch.bfloat16)
    errors = []
    with torch.no_grad():
        for backend in ("auto", "reference"):
            with seqcells.backend(backend):
                found = leaves(cell(input, state))
            exact = cell.double()(
                input.double(), seqcells.state.map_state(torch.Tensor.double, state)
            )
            cell.bfloat16()
            pairs = zip(found, leaves(exact), strict=True)
            errors.append(sum((one.double() - other).norm() for one, other in pairs))
    assert errors[0] <= errors[1]


def test_a_step_of_a_bfloat16_cell_with_gradients_runs_pytorchs_operations(ran):
    cell, input, state = step("lstm", torch.bfloat16)
    found = leaves(cell(input, state))
    assert all(part.requires_grad for part in found)
    cell.requires_grad_(False)
    assert not ran
    assert not any(part.requires_grad for part in leaves(cell(input, state)))
    assert ran == ["forward"]  # no gradient is recorded


def test_a_transform_of_a_step_under_autocast():
    cell, _, state = step("gru")
    inputs = random(4, B, I, dtype=torch.float32)
    with torch.no_grad(), AUTOCAST:
        found = torch.vmap(lambda input: cell(input, state))(inputs)
        expected = torch.stack([cell(input, state) for input in inputs])
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)
