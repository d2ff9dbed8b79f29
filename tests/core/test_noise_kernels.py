"""Kernels run what modifiers draw: every factor and share, alone and together."""

import itertools

import pytest
import torch
from core_helpers import F64, KERNEL_CELLS, close, leaves, make_cell, random

from seqcells import (
    GatedCell,
    Noise,
    Recurrent,
    RecurrentDropout,
    VariationalDropout,
    Zoneout,
    backend,
)
from seqcells.kernels import cpu
from seqcells.modifiers.base import unsupported_reason
from seqcells.state import map_state

T, B, I = 6, 5, 4  # noqa: E741
LENGTHS = [6, 0, 3, 6, 2]
ABSENT, CONSTANT, CHANGING = range(3)

pytestmark = pytest.mark.skipif(
    cpu.unavailable() is not None, reason=f"no native code here: {cpu.unavailable()}"
)


def factor(form, *shape):
    if form == ABSENT:
        return None
    return torch.rand(*([T] if form == CHANGING else []), *shape, dtype=F64)


def noises(cell, state):
    """Every combination of what the cell takes."""
    hidden = leaves(state)[0]
    takes = [unsupported_reason(cell, field) is None for field in ("hidden", "candidate", "zone")]
    for forms in itertools.product(*(range(3) if taken else [ABSENT] for taken in takes)):
        if any(forms):
            read, drop, zone = forms
            shares = map_state(lambda part, zone=zone: factor(zone, *part.shape), state)
            candidate = factor(drop, B, cell.hidden_size)
            yield Noise(factor(read, *hidden.shape), candidate, shares if zone else None)


def compute(recurrent, inputs, state, noise, options, name):
    recurrent.zero_grad()
    sources = [inputs.clone(), *leaves(map_state(torch.Tensor.clone, state))]
    for source in sources:
        source.requires_grad_()
    parts = iter(sources[1:])
    start = map_state(lambda part: next(parts), state)
    with backend(name):
        outputs, final = recurrent(sources[0], start, noise=noise, **options)
    results = [outputs, *leaves(final)]
    torch.manual_seed(1)
    torch.autograd.backward(results, [torch.randn_like(part) for part in results])
    found = [source.grad for source in (*sources, *recurrent.parameters())]
    return [*results, *found]


OPTIONS = {
    "padded": {},
    "lengths": {"lengths": LENGTHS},
    "resets": {"lengths": LENGTHS, "resets": torch.arange(T * B).reshape(T, B) % 3 == 0},
}


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("form", OPTIONS)
@pytest.mark.parametrize("kind", KERNEL_CELLS)
def test_the_kernel_computes_what_the_loop_does(kind, form, reverse):
    hidden_size = 21 if form == "lengths" else 16
    cell = make_cell(kind, I, hidden_size)
    recurrent, inputs = Recurrent(cell, reverse=reverse), random(T, B, I)
    state = map_state(torch.randn_like, cell.initial_state(B))
    for noise in noises(cell, state):
        ours, loop = (
            compute(recurrent, inputs, state, noise, OPTIONS[form], name)
            for name in ("cpu", "reference")
        )
        close(ours, loop)


@pytest.mark.parametrize("instructions", range(len(cpu.instruction_sets())))
def test_every_instruction_set_does(instructions, monkeypatch):
    monkeypatch.setattr(cpu.library, "variant", instructions)
    test_the_kernel_computes_what_the_loop_does("layer_norm_lstm", "lengths", False)
    test_the_kernel_computes_what_the_loop_does("lstm", "resets", True)


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("kind", ["rnn_tanh", "lstm_proj", "gru_reset_before", "layer_norm_lstm"])
def test_few_rows_that_threads_divide(kind, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        cell = make_cell(kind, 40, 200)
        recurrent, inputs = Recurrent(cell), random(9, 1, 40)
        state = map_state(torch.randn_like, cell.initial_state(1))
        noise = Noise(
            torch.rand_like(leaves(state)[0]),
            None if kind == "rnn_tanh" else torch.rand(9, 1, 200, dtype=F64),
            map_state(torch.rand_like, state),
        )
        ours, loop = (
            compute(recurrent, inputs, state, noise, {}, name) for name in ("cpu", "reference")
        )
        close(ours, loop)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("kind", ["lstm", "gru", "layer_norm_lstm"])
def test_modified_cells_run_by_the_kernel(kind, training):
    cell = Zoneout(RecurrentDropout(VariationalDropout(make_cell(kind, I, 16), 0.2), 0.3), 0.1)
    recurrent = Recurrent(cell).train(training)
    inputs = random(T, B, I)
    noise, results = recurrent.noise(inputs), []
    for name in ("cpu", "reference"):
        with backend(name):
            results.append(recurrent(inputs, noise=noise))
    close(leaves(results[0]), leaves(results[1]))


def test_a_noise_that_learns_is_left_to_the_loop():
    cell = make_cell("lstm", I, 16)
    factor = torch.rand(B, 16, dtype=F64, requires_grad=True)
    outputs, _ = Recurrent(cell)(random(T, B, I), noise=Noise(hidden=factor))
    outputs.sum().backward()
    assert factor.grad.abs().sum() > 0


class Ignoring(GatedCell):
    """Takes a factor and does nothing with it."""

    gates = ("only",)

    @staticmethod
    def activate(from_input, from_hidden, state, drop=None):
        new = torch.tanh(from_input + from_hidden)
        return new, (new,)


def test_what_a_kernel_does_not_take_is_left_to_the_loop():
    recurrent = Recurrent(Ignoring(I, 16, dtype=F64))
    noise, inputs = Noise(candidate=factor(CONSTANT, B, 16)), random(T, B, I)
    recurrent(inputs, noise=noise)
    with backend("cpu"), pytest.raises(RuntimeError, match=r"takes no noise\.candidate"):
        recurrent(inputs, noise=noise)
