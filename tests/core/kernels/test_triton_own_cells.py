"""Triton kernels for a user's cell, from its `activate`: any parts of the state, late products."""

import pytest
import torch
from parity import F64, agree, backends_agree, call_options, compute, leaves, random, random_state
from torch import nn

import seqcells
from seqcells import LearnedState, Noise, Recurrent, VariationalDropout
from seqcells.kernels import triton

pytestmark = pytest.mark.skipif(
    triton.unavailable() is not None or not triton.interprets(),
    reason=triton.unavailable() or "a GPU is here (tests/core/test_cuda.py)",
)

T, B, I, H = 3, 4, 3, 6  # noqa: E741
RESETS = call_options(T, [2, 0, 3, 1])["resets"]
PRODUCTS = [
    pytest.param(name, marks=pytest.mark.slow if name in ("memory", "streamed") else [])
    for name in ("resident", "memory", "split", "streamed", "external")
]


class Delayed(seqcells.GatedCell):
    """A state of three parts; the last is the hidden state before the step."""

    gates = ("carry", "candidate")

    def initial_state(self, batch_size, **options):
        return (super().initial_state(batch_size, **options),) * 3

    @staticmethod
    def activate(from_input, from_hidden, state):
        hidden, slow, delayed = state
        carry, candidate = (from_input + from_hidden).chunk(2, dim=-1)
        carry, candidate = torch.sigmoid(carry), torch.tanh(candidate)
        slow = carry * slow + (1 - carry) * candidate * delayed
        return (torch.tanh(slow + candidate), slow, hidden), (carry, candidate)


@pytest.mark.parametrize(
    "zoneout", [pytest.param(False, marks=pytest.mark.slow), True], ids=["plain", "zoneout"]
)
@pytest.mark.parametrize("product", PRODUCTS)
def test_a_state_of_three_parts_equals_the_loop(product, zoneout, prefer_plan, launched):
    """All states, with resets to a learned state, so that each part has every gradient."""
    prefer_plan(product)
    cell = LearnedState(Delayed(I, H, dtype=F64))
    for part in cell.parameters():
        nn.init.normal_(part)
    state = random_state(cell, B)
    zone = tuple(torch.rand(T, B, H, dtype=F64) for _ in leaves(state))
    options = {"state": state, "all_states": True, **RESETS}
    if zoneout:
        options["noise"] = Noise(zone=zone)
    backends_agree(Recurrent(cell), random(T, B, I), "triton", **options)
    assert launched
    assert {made for _, made in launched} == {product}


class Staged(seqcells.GatedCell):
    """Two stages of late products: `first` separates its gates' products, `second` adds them.

    Outside of the units that exist, all sums are 0 and the operand of the first stage is NaN.
    """

    gates = ("reset", "update", "scale", "shift", "candidate", "carry")
    late_gates = gates[2:]

    @staticmethod
    def activate(from_input, from_hidden, state, drop=None, *, multiply):
        inputs = from_input.chunk(6, dim=-1)
        reset, update = (torch.cat(inputs[:2], -1) + from_hidden).chunk(2, dim=-1)
        operand = state + reset * torch.rsqrt(torch.abs(reset))
        scale, shift = multiply(operand, "scale", "shift").chunk(2, dim=-1)
        operand = torch.tanh(inputs[2] * scale) + inputs[3] * shift
        late = multiply(operand, "candidate", "carry")
        candidate, carry = (torch.cat(inputs[4:], -1) + late).chunk(2, dim=-1)
        candidate = torch.tanh(candidate if drop is None else candidate * drop)
        update, carry = torch.sigmoid(update), torch.sigmoid(carry)
        state = update * carry * state + (1 - update) * candidate
        return state, (reset, update, scale, shift, candidate, carry)


LATE = pytest.mark.parametrize("product", ["resident", "memory"])


@LATE
@pytest.mark.parametrize("reverse", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_stages_of_late_products_equal_the_loop(product, reverse, prefer_plan, launched):
    """With the same mask for both backends, lengths and resets."""
    prefer_plan(product)
    recurrent = Recurrent(VariationalDropout(Staged(I, H, dtype=F64), 0.4), reverse=reverse)
    inputs, state, found = random(T, B, I), random(B, H), []
    for name in ("triton", "reference"):
        torch.manual_seed(0)
        found.append(compute(recurrent, inputs, name, state=state, **RESETS))
    agree(*found)
    assert {made for _, made in launched} == {product}


class Centred(seqcells.GatedCell):
    """Late products of a value with a mean, of a parameter, and of a part of the state."""

    gates = ("carry", "candidate", "offset", "slow")
    input_gates = gates[:2]
    late_gates = gates[1:]

    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        self.gain = nn.Parameter(random(self.hidden_size))

    def initial_state(self, batch_size, **options):
        return (super().initial_state(batch_size, **options),) * 2

    def activate(self, from_input, from_hidden, state, *, multiply):
        hidden, slow = state
        from_carry, from_candidate = from_input.chunk(2, dim=-1)
        carry = torch.sigmoid(from_carry + from_hidden)
        operand = hidden - (hidden * carry).mean(-1, keepdim=True)
        candidate = torch.tanh(from_candidate + multiply(operand, "candidate"))
        offset = multiply(self.gain + 0 * hidden, "offset")
        slow = slow + torch.tanh(multiply(slow, "slow"))
        hidden = carry * hidden + (1 - carry) * candidate + offset * slow
        return (hidden, slow), (carry, candidate, offset, slow)


@LATE
def test_late_products_of_other_operands_equal_the_loop(product, prefer_plan, launched):
    prefer_plan(product)
    cell = Centred(I, H, dtype=F64)
    noise = Noise(hidden=torch.rand(T, B, H, dtype=F64))
    options = {"state": random_state(cell, B), "noise": noise, **RESETS}
    backends_agree(Recurrent(cell), random(T, B, I), "triton", **options)
    assert {made for _, made in launched} == {product}


class Inner(seqcells.GatedCell):
    """A gate without a product with the input."""

    gates = ("candidate", "carry")
    input_gates = gates[:1]

    @staticmethod
    def activate(from_input, from_hidden, state):
        candidate, carry = from_hidden.chunk(2, dim=-1)
        candidate, carry = torch.tanh(from_input + candidate), torch.sigmoid(carry)
        return carry * state + (1 - carry) * candidate, (candidate, carry)


@pytest.mark.parametrize("product", PRODUCTS)
def test_gates_without_an_input_product_equal_the_loop(product, prefer_plan, launched):
    prefer_plan(product)
    recurrent = Recurrent(Inner(I, H, dtype=F64))
    backends_agree(recurrent, random(T, B, I), "triton", state=random(B, H), **RESETS)
    assert {made for _, made in launched} == {product}
