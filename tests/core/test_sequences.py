"""Properties of the functions on ragged sequences, over random shapes and lengths."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from parity import F64, random, same
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqcells import LSTMState, detach_state
from seqcells.sequences import (
    check_lengths,
    pack,
    packed_lengths,
    unpack,
    valid_steps,
    zero_padding,
)

CPU = torch.device("cpu")


@st.composite
def ragged(draw, least=0, rows=0):
    """Draw the lengths of a batch, and a number of steps that is long enough."""
    lengths = draw(st.lists(st.integers(least, 7), min_size=rows, max_size=6))
    steps = max(lengths, default=0) + draw(st.integers(0, 3))
    return torch.tensor(lengths, dtype=torch.int64), steps


features = st.lists(st.integers(1, 3), max_size=2)


@given(ragged())
def test_valid_steps_count_to_each_length(case):
    lengths, steps = case
    valid = valid_steps(lengths, steps)
    assert valid.shape == (steps, len(lengths))
    for row, length in enumerate(lengths.tolist()):
        assert valid[:, row].tolist() == [True] * length + [False] * (steps - length)


@given(ragged(), features)
def test_zero_padding_keeps_what_is_valid_and_nothing_else(case, shape):
    lengths, steps = case
    inputs = random(steps, len(lengths), *shape)
    inputs[~valid_steps(lengths, steps)] = float("nan")
    before = inputs.clone()
    clean = zero_padding(inputs, lengths)
    for row, length in enumerate(lengths.tolist()):
        assert torch.equal(clean[:length, row], inputs[:length, row])
        assert not clean[length:, row].any()
    assert torch.equal(torch.isnan(inputs), torch.isnan(before))
    assert torch.equal(zero_padding(clean, lengths), clean)


@given(ragged())
def test_zero_padding_lets_no_gradient_through(case):
    lengths, steps = case
    inputs = random(steps, len(lengths), 2).requires_grad_()
    zero_padding(inputs, lengths).sum().backward()
    assert torch.equal(inputs.grad, valid_steps(lengths, steps)[..., None].expand(-1, -1, 2) * 1.0)


@given(ragged(), features)
def test_unpack_inverts_pack(case, shape):
    lengths, steps = case
    padded = zero_padding(random(steps, len(lengths), *shape), lengths)
    data = pack(padded, lengths)
    assert data.shape == (int(lengths.sum()), *shape)
    assert torch.equal(unpack(data, lengths, steps), padded)
    assert torch.equal(pack(unpack(data, lengths, steps), lengths), data)


@given(ragged(least=1, rows=1), features)
def test_pack_and_unpack_equal_torchs(case, shape):
    lengths, steps = case
    lengths = lengths.sort(descending=True).values
    padded = random(steps, len(lengths), *(shape or [1]))
    packed = pack_padded_sequence(padded, lengths)
    assert torch.equal(pack(padded, lengths), packed.data)
    again, _ = pad_packed_sequence(packed, total_length=steps)
    assert torch.equal(unpack(packed.data, lengths, steps), again)
    assert torch.equal(packed_lengths(packed.batch_sizes), lengths)


@given(ragged(least=1, rows=1))
def test_pack_and_unpack_pass_gradients(case):
    lengths, steps = case
    padded = random(steps, len(lengths), 2).requires_grad_()
    data = pack(padded, lengths)
    upstream = torch.randn_like(data)
    (gradient,) = torch.autograd.grad(data, padded, upstream)
    assert torch.equal(gradient, unpack(upstream, lengths, steps))
    leaf = data.detach().requires_grad_()
    upstream = torch.randn_like(padded)
    (gradient,) = torch.autograd.grad(unpack(leaf, lengths, steps), leaf, upstream)
    assert torch.equal(gradient, pack(upstream, lengths))


@given(ragged(), st.sampled_from([torch.int64, torch.int32, torch.int16, torch.uint8, None]))
def test_lengths_of_any_integer_dtype_are_accepted(case, dtype):
    lengths, steps = case
    form = lengths.tolist() if dtype is None else lengths.to(dtype)
    found = check_lengths(form, steps, len(lengths), CPU)
    assert found.dtype == torch.int64
    assert torch.equal(found, lengths)


@given(ragged(rows=1), st.data())
def test_a_length_out_of_range_raises(case, data):
    lengths, steps = case
    row = data.draw(st.integers(0, len(lengths) - 1))
    bad = data.draw(st.one_of(st.integers(-9, -1), st.integers(steps + 1, steps + 9)))
    lengths[row] = bad
    with pytest.raises(ValueError, match=rf"expected values from 0 to {steps}.* got {bad}"):
        check_lengths(lengths, steps, len(lengths), CPU)
    with pytest.raises(ValueError, match="got"):
        check_lengths(lengths.tolist(), steps, len(lengths), CPU)


@given(ragged(), st.integers(1, 3))
def test_a_wrong_number_of_lengths_raises(case, more):
    lengths, steps = case
    with pytest.raises(ValueError, match="expected one for each row"):
        check_lengths(lengths, steps, len(lengths) + more, CPU)


@given(ragged(rows=1), st.sampled_from([torch.float32, torch.float64, torch.bool]))
def test_lengths_that_are_not_integers_raise(case, dtype):
    lengths, steps = case
    with pytest.raises(TypeError, match=r"expected whole numbers, got torch\."):
        check_lengths(lengths.to(dtype), steps, len(lengths), CPU)


def test_lengths_on_another_device_are_not_read():
    unread = torch.empty(3, dtype=torch.int32, device="meta")
    found = check_lengths(unread, 5, 3, torch.device("meta"))
    assert found.is_meta
    assert found.dtype == torch.int64


def test_detach_state_detaches_any_state():
    tensor = random(2, 3).requires_grad_() * 1
    state = (tensor, [LSTMState(tensor, tensor)])
    detached = detach_state(state)
    assert type(detached[1]) is list
    assert type(detached[1][0]) is LSTMState
    for part in (detached[0], *detached[1][0]):
        assert not part.requires_grad
        same(part, tensor.detach())
    with pytest.raises(TypeError, match=r"expected a state .*got dict"):
        detach_state({"hidden": tensor})


def test_the_default_dtype_is_not_used():
    assert valid_steps(torch.tensor([1]), 2).dtype == torch.bool
    assert unpack(torch.ones(1, dtype=F64), torch.tensor([1]), 2).dtype == F64
