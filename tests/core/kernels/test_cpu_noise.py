"""The kernel with noise equals the loop: every factor and share, and every two together."""

import pytest
import torch
from cell_table import CELLS, make_cell
from pairwise import pairs_of, pairwise
from parity import F64, backends_agree, call_options, close, leaves, random, random_state

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
    """Yield combinations of the noise that the cell takes: every pair of forms."""
    hidden = leaves(state)[0]
    takes = [unsupported_reason(cell, field) is None for field in ("hidden", "candidate", "zone")]
    for forms in pairwise(*(range(3) if taken else [ABSENT] for taken in takes)):
        if any(forms):
            read, drop, zone = forms
            shares = map_state(lambda part, zone=zone: factor(zone, *part.shape), state)
            candidate = factor(drop, B, cell.hidden_size)
            yield Noise(factor(read, *hidden.shape), candidate, shares if zone else None)


OPTIONS = call_options(T, LENGTHS)


@pairs_of(kind=list(CELLS), form=list(OPTIONS), reverse={"forward": False, "reverse": True})
def test_results_and_gradients_equal_the_loop(kind, form, reverse):
    hidden_size = 21 if form == "lengths" else 16
    cell = make_cell(kind, I, hidden_size)
    recurrent, inputs = Recurrent(cell, reverse=reverse), random(T, B, I)
    state = random_state(cell, B)
    for noise in noises(cell, state):
        backends_agree(recurrent, inputs, state=state, noise=noise, **OPTIONS[form])


DIVIDED = ["rnn_tanh", "lstm_proj", "gru_reset_before", "layer_norm_lstm"]


@pytest.mark.parametrize("instructions", range(len(cpu.library.instruction_sets())))
def test_every_instruction_set_equals_the_loop(instructions, monkeypatch):
    monkeypatch.setattr(cpu.library, "variant", instructions)
    test_results_and_gradients_equal_the_loop("layer_norm_lstm", "lengths", False)
    test_results_and_gradients_equal_the_loop("lstm", "resets", True)


@pytest.mark.parametrize(
    ("kind", "threads"),
    [
        *((kind, 2) for kind in DIVIDED),
        *((kind, 4) for kind in DIVIDED[:2]),
        *(pytest.param(kind, 4, marks=pytest.mark.slow) for kind in DIVIDED[2:]),
    ],
)
def test_threads_that_share_units_equal_the_loop(kind, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        cell = make_cell(kind, 40, 200)
        recurrent, inputs = Recurrent(cell), random(9, 1, 40)
        state = random_state(cell, 1)
        noise = Noise(
            torch.rand_like(leaves(state)[0]),
            None if kind == "rnn_tanh" else torch.rand(9, 1, 200, dtype=F64),
            map_state(torch.rand_like, state),
        )
        backends_agree(recurrent, inputs, state=state, noise=noise)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("kind", ["lstm", "gru", "layer_norm_lstm"])
def test_outputs_of_modified_cells_equal_the_loop(kind, training):
    cell = Zoneout(RecurrentDropout(VariationalDropout(make_cell(kind, I, 16), 0.2), 0.3), 0.1)
    recurrent = Recurrent(cell).train(training)
    inputs = random(T, B, I)
    noise, results = recurrent.noise(inputs), []
    for name in ("cpu", "reference"):
        with backend(name):
            results.append(recurrent(inputs, noise=noise))
    close(leaves(results[0]), leaves(results[1]))


def test_noise_that_requires_a_gradient_runs_as_the_loop():
    cell = make_cell("lstm", I, 16)
    factor = torch.rand(B, 16, dtype=F64, requires_grad=True)
    outputs, _ = Recurrent(cell)(random(T, B, I), noise=Noise(hidden=factor))
    outputs.sum().backward()
    assert factor.grad.abs().sum() > 0


class Ignoring(GatedCell):
    """Accept a factor and ignore it."""

    gates = ("only",)

    @staticmethod
    def activate(from_input, from_hidden, state, drop=None):
        new = torch.tanh(from_input + from_hidden)
        return new, (new,)


def test_noise_that_a_kernel_does_not_take_runs_as_the_loop():
    recurrent = Recurrent(Ignoring(I, 16, dtype=F64))
    noise, inputs = Noise(candidate=factor(CONSTANT, B, 16)), random(T, B, I)
    recurrent(inputs, noise=noise)
    with backend("cpu"), pytest.raises(RuntimeError, match=r"does not support noise\.candidate"):
        recurrent(inputs, noise=noise)
