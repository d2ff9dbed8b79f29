"""`assert_parity` raises where something differs, and names it."""

import copy
from collections.abc import Callable

import pytest
import torch
from cell_table import LAYERS, make_layers
from parity import F64, random
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import seqcells
from seqcells.testing import assert_parity

T, B, I, H = 5, 3, 4, 5  # noqa: E741


class Altered(seqcells.LSTM):
    """An LSTM whose call may be wrong in one place."""

    alter: Callable = staticmethod(lambda output, state: (output, state))

    def forward(self, input, hx=None, **options):
        return self.alter(*super().forward(input, hx, **options))


def twins(alter=None):
    ours, theirs = Altered(I, H, dtype=F64), nn.LSTM(I, H, dtype=F64)
    if alter:
        ours.alter = alter
    return ours, theirs


class FalseGradient(torch.autograd.Function):
    """The identity with a gradient that is 1e-6 too large."""

    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (1 + 1e-6)


def test_passes_where_nothing_differs():
    assert_parity(*twins(), random(T, B, I))


@pytest.mark.parametrize(
    ("alter", "words"),
    [
        (lambda output, state: (output + 1e-9, state), "^output"),
        (lambda output, state: (output[:-1], state), r"^output: .*\(5, 3, 5\).*\(4, 3, 5\)"),
        (lambda output, state: (output.float(), state), "^output: .*float64.*float32"),
        (lambda output, state: (output, (state[0] * 1.001, state[1])), "^h_n"),
        (lambda output, state: (output, state[::-1]), "^h_n"),
        (lambda output, state: (output, (state[0], state[1] * 1.001)), "^c_n"),
        (lambda output, state: (output * float("nan"), state), "^output"),
        (lambda output, state: (FalseGradient.apply(output), state), "^grad input"),
    ],
    ids=["value", "shape", "dtype", "h_n", "states_swapped", "c_n", "nan", "gradient"],
)
def test_fails_on_a_wrong_result(alter, words):
    with pytest.raises(AssertionError, match=words):
        assert_parity(*twins(alter), random(T, B, I))


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
def test_fails_on_the_wrong_gradient_of_one_weight(name):
    ours, theirs = twins()
    parametrized = copy.deepcopy(ours)

    def weights(self):
        found = seqcells.LSTM._weights(self)
        field = name.removesuffix("_l0")
        wrong = FalseGradient.apply(getattr(found[0], field))
        return [found[0]._replace(**{field: wrong})]

    parametrized.__class__ = type("Wrong", (Altered,), {"_weights": weights})
    with pytest.raises(AssertionError, match=rf"^grad {name}"):
        assert_parity(parametrized, theirs, random(T, B, I))


def test_fails_on_a_swapped_gate():
    class Swapped(seqcells.LSTMCell):
        def activate(self, from_input, from_hidden, state):
            i, f, g, o = from_input.chunk(4, dim=-1)
            return seqcells.LSTMCell.activate(torch.cat([f, i, g, o], -1), from_hidden, state)

    inputs = random(B, I)
    theirs = nn.LSTMCell(I, H, dtype=F64)
    assert_parity(seqcells.LSTMCell(I, H, dtype=F64), theirs, inputs)
    with pytest.raises(AssertionError, match=r"^hidden"):
        assert_parity(Swapped(I, H, dtype=F64), theirs, inputs)


def test_fails_on_a_bias_that_is_off():
    class Off(seqcells.GRUCell):
        def weights(self):
            weights = super().weights()
            return weights._replace(bias_hh=weights.bias_hh + 1e-6)

    with pytest.raises(AssertionError, match=r"^hidden"):
        assert_parity(Off(I, H, dtype=F64), nn.GRUCell(I, H, dtype=F64), random(B, I))


def test_fails_in_float32_beyond_twice_torchs_error():
    ours, theirs = make_layers("lstm", 32, 32, dtype=torch.float32)
    assert_parity(ours, theirs, random(9, 8, 32, dtype=torch.float32))

    class Sloppy(seqcells.LSTM):
        def forward(self, *args, **options):
            output, state = super().forward(*args, **options)
            return output + 1e-5 * torch.randn_like(output), state

    with pytest.raises(AssertionError, match=r"^output"):
        assert_parity(Sloppy(32, 32), theirs, random(9, 8, 32, dtype=torch.float32))


def test_fails_on_weights_of_another_form():
    with pytest.raises(RuntimeError, match="bias_ih_l0"):
        assert_parity(
            seqcells.GRU(I, H, bias=False, dtype=F64), nn.GRU(I, H, dtype=F64), random(T, B, I)
        )


def test_the_gradient_of_the_initial_state_is_compared():
    class Cut(seqcells.GRU):
        def forward(self, input, hx=None, **options):
            return super().forward(input, FalseGradient.apply(hx), **options)

    with pytest.raises(AssertionError, match=r"^grad hx"):
        assert_parity(
            Cut(I, H, dtype=F64), nn.GRU(I, H, dtype=F64), random(T, B, I), random(1, B, H)
        )


@pytest.mark.parametrize("kind", LAYERS)
def test_a_comparison_changes_nothing(kind):
    ours, theirs = make_layers(kind)
    inputs = random(T, B, I).requires_grad_()
    before = [parameter.clone() for parameter in (*ours.parameters(), *theirs.parameters())]
    state = torch.get_rng_state()
    assert_parity(ours, theirs, inputs)
    assert_parity(ours, theirs, inputs, lengths=[2, 5, 1])
    after = [*ours.parameters(), *theirs.parameters()]
    assert torch.equal(state, torch.get_rng_state())
    assert inputs.grad is None
    for one, other in zip(before, after):
        assert torch.equal(one, other)
        assert other.grad is None


class Ignorant(seqcells.LSTM):
    def forward(self, input, hx=None, lengths=None):
        return super().forward(input, hx)


class Detached(seqcells.LSTM):
    def _weights(self):
        (weights,) = super()._weights()
        return [weights._replace(bias_hh=weights.bias_hh.detach())]


def test_fails_on_a_gradient_that_is_missing():
    theirs = nn.LSTM(I, H, dtype=F64)
    with pytest.raises(AssertionError, match=r"grad bias_hh_l0"):
        assert_parity(Detached(I, H, dtype=F64), theirs, random(T, B, I))


def test_packed_input_and_lengths_are_compared():
    ours, theirs = twins()
    packed = pack_padded_sequence(random(T, B, I), [2, 5, 1], enforce_sorted=False)
    assert_parity(ours, theirs, packed)
    wrong, _ = twins(lambda output, state: (output._replace(data=output.data * 2), state))
    with pytest.raises(AssertionError, match=r"^output"):
        assert_parity(wrong, theirs, packed)
    with pytest.raises(AssertionError, match=r"^output"):
        assert_parity(Ignorant(I, H, dtype=F64), theirs, random(T, B, I), lengths=[2, 5, 1])
