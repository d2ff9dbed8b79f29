"""Triton kernels for a user's cell with a state of several parts, from its `activate`."""

import pytest
import torch
from parity import F64, backends_agree, call_options, leaves, random, random_state
from torch import nn

import seqcells
from seqcells import LearnedState, Noise, Recurrent
from seqcells.kernels import triton

pytestmark = pytest.mark.skipif(
    triton.unavailable() is not None or not triton.interprets(),
    reason="a GPU is here (tests/core/test_cuda.py) or Triton is not",
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
