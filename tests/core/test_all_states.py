"""Every step's state, not only the last, by the kernels and by the loop."""

import pytest
import torch
from core_helpers import F64, KERNEL_CELLS, close, leaves, make_cell, random
from torch import nn

from seqcells import LSTMState, Recurrent, Zoneout, backend, trace
from seqcells.kernels import cpu
from seqcells.state import map_state

T, B, I, H = 6, 4, 3, 5  # noqa: E741
LENGTHS = [6, 0, 4, 2]
OPTIONS = {
    "padded": {},
    "lengths": {"lengths": LENGTHS},
    "resets": {"lengths": LENGTHS, "resets": torch.arange(T * B).reshape(T, B) % 3 == 1},
}


def compute(recurrent, inputs, options, name):
    recurrent.zero_grad()
    inputs = inputs.clone().requires_grad_()
    with backend(name):
        states, final = recurrent(inputs, all_states=True, **options)
    results = [*leaves(states), *leaves(final)]
    torch.manual_seed(1)
    torch.autograd.backward(results, [torch.randn_like(part) for part in results])
    return [*results, inputs.grad, *(part.grad for part in recurrent.parameters())]


@pytest.mark.skipif(cpu.unavailable() is not None, reason="no native code here")
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("form", OPTIONS)
@pytest.mark.parametrize("kind", KERNEL_CELLS)
def test_kernels_compute_what_the_loop_does(kind, form, reverse):
    recurrent, inputs = Recurrent(make_cell(kind, I, H), reverse=reverse), random(T, B, I)
    close(*(compute(recurrent, inputs, OPTIONS[form], name) for name in ("cpu", "reference")))


@pytest.mark.skipif(cpu.unavailable() is not None, reason="no native code here")
def test_with_zoneout():
    recurrent = Recurrent(Zoneout(make_cell("lstm", I, H), LSTMState(0.3, 0.6)))
    inputs = random(T, B, I)
    options = {"noise": recurrent.noise(inputs), "lengths": LENGTHS}
    close(*(compute(recurrent, inputs, options, name) for name in ("cpu", "reference")))


@pytest.mark.parametrize("kind", ["lstm", "gru", "peephole_lstm"])
def test_they_are_those_that_trace_shows(kind, each_backend):
    recurrent, inputs = Recurrent(make_cell(kind, I, H), batch_first=True), random(B, T, I)
    states, final = recurrent(inputs, lengths=LENGTHS, all_states=True)
    found = trace(recurrent, inputs, lengths=LENGTHS)
    assert type(states) is type(final)
    close([*leaves(states), *leaves(final)], [*leaves(found.states), *leaves(found.final_state)])


def test_of_a_cell_that_is_only_called():
    cell = nn.LSTMCell(I, H, dtype=F64)
    (hidden, memory), final = Recurrent(cell)(random(T, B, I), all_states=True)
    assert hidden.shape == memory.shape == (T, B, H)
    close(list(final), [hidden[-1], memory[-1]])


def test_without_a_batch():
    recurrent, inputs = Recurrent(make_cell("lstm", I, H)), random(T, I)
    states, final = recurrent(inputs, all_states=True)
    close(map_state(lambda part: part[-1], states), final)


def test_in_one_graph():
    recurrent, inputs = Recurrent(make_cell("lstm", I, H)), random(T, B, I)
    compiled = torch.compile(recurrent, fullgraph=True, backend="aot_eager")
    close(
        leaves(compiled(inputs, all_states=True)[0]), leaves(recurrent(inputs, all_states=True)[0])
    )
