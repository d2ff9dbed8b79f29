"""`all_states`: the state of every step, on the kernels and in the loop."""

import pytest
import torch
from cell_table import CELLS, make_cell
from pairwise import pairs_of
from parity import F64, backends_agree, call_options, close, leaves, random
from torch import nn

from seqcells import LSTMState, Recurrent, Zoneout, trace
from seqcells.kernels import cpu
from seqcells.state import map_state

T, B, I, H = 6, 4, 3, 5  # noqa: E741
LENGTHS = [6, 0, 4, 2]
OPTIONS = call_options(T, LENGTHS)


@pytest.mark.skipif(cpu.unavailable() is not None, reason="no native code here")
@pairs_of(kind=list(CELLS), form=list(OPTIONS), reverse={"forward": False, "reverse": True})
def test_states_and_gradients_equal_the_loop(kind, form, reverse):
    recurrent, inputs = Recurrent(make_cell(kind, I, H), reverse=reverse), random(T, B, I)
    backends_agree(recurrent, inputs, all_states=True, **OPTIONS[form])


@pytest.mark.skipif(cpu.unavailable() is not None, reason="no native code here")
def test_states_with_zoneout_equal_the_loop():
    recurrent = Recurrent(Zoneout(make_cell("lstm", I, H), LSTMState(0.3, 0.6)))
    inputs = random(T, B, I)
    noise = recurrent.noise(inputs)
    backends_agree(recurrent, inputs, all_states=True, noise=noise, lengths=LENGTHS)


@pytest.mark.parametrize("kind", ["lstm", "gru", "peephole_lstm"])
def test_states_equal_those_of_trace(kind, each_backend):
    recurrent, inputs = Recurrent(make_cell(kind, I, H), batch_first=True), random(B, T, I)
    states, final = recurrent(inputs, lengths=LENGTHS, all_states=True)
    found = trace(recurrent, inputs, lengths=LENGTHS)
    assert type(states) is type(final)
    close([*leaves(states), *leaves(final)], [*leaves(found.states), *leaves(found.final_state)])


def test_a_cell_without_our_protocol_returns_all_states():
    cell = nn.LSTMCell(I, H, dtype=F64)
    (hidden, memory), final = Recurrent(cell)(random(T, B, I), all_states=True)
    assert hidden.shape == memory.shape == (T, B, H)
    close(list(final), [hidden[-1], memory[-1]])


def test_unbatched_input_returns_all_states():
    recurrent, inputs = Recurrent(make_cell("lstm", I, H)), random(T, I)
    states, final = recurrent(inputs, all_states=True)
    close(map_state(lambda part: part[-1], states), final)


def test_all_states_compile_in_one_graph():
    recurrent, inputs = Recurrent(make_cell("lstm", I, H)), random(T, B, I)
    compiled = torch.compile(recurrent, fullgraph=True, backend="aot_eager")
    close(
        leaves(compiled(inputs, all_states=True)[0]), leaves(recurrent(inputs, all_states=True)[0])
    )
