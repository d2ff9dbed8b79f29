"""`torch.load(weights_only=True)` and `torch.export.save` accept public modules and states."""

import io

import pytest
import torch
from cell_table import CELLS, LAYERS, I, make_cell, make_layers
from parity import F64, leaves, random, random_state, same
from torch import nn

import seqcells

MODIFIERS = (
    seqcells.Zoneout,
    seqcells.VariationalDropout,
    seqcells.RecurrentDropout,
    seqcells.DropConnect,
)


def loaded(value):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("kind", LAYERS)
def test_layers_load(kind):
    layers, _ = make_layers(kind, num_layers=2, bidirectional=True)
    inputs = random(5, 2, I)
    same(loaded(layers)(inputs), layers(inputs))


@pytest.mark.parametrize("kind", CELLS)
def test_cells_and_their_states_load(kind):
    recurrent = seqcells.Recurrent(make_cell(kind))
    inputs, state = random(5, 2, I), random_state(recurrent.cell, 2)
    found = loaded(recurrent)(inputs, loaded(state))
    same(found, recurrent(inputs, state))
    _, final = recurrent(inputs)
    restored = loaded(final)
    assert type(restored) is type(final)
    same(restored, final)


@pytest.mark.parametrize("modifier", MODIFIERS)
def test_modifiers_and_noise_load(modifier):
    recurrent = seqcells.Recurrent(modifier(seqcells.LSTMCell(I, 5, dtype=F64), 0.3))
    inputs = random(4, 2, I)
    noise = recurrent.noise(inputs)
    same(loaded(recurrent)(inputs, noise=loaded(noise)), recurrent(inputs, noise=noise))


def test_stacks_learned_states_quantized_modules_and_traces_load():
    inputs = random(4, 2, I)
    learned = seqcells.LearnedState(seqcells.LSTMCell(10, 5, dtype=F64))
    pair = seqcells.LSTMCell(I, 5, dtype=F64), seqcells.GRUCell(I, 5, dtype=F64)
    stack = seqcells.Stack([pair, learned])
    same(loaded(stack)(inputs), stack(inputs))
    small = seqcells.quantize(seqcells.LSTM(I, 5))
    same(loaded(small)(inputs.float()), small(inputs.float()))
    trace = seqcells.trace(seqcells.Recurrent(seqcells.SLSTMCell(I, 5, dtype=F64)), inputs)
    restored = loaded(trace)
    assert type(restored) is seqcells.Trace
    same(restored.states, trace.states)


def test_every_public_module_and_state_is_registered():
    names = (getattr(seqcells, name) for name in seqcells.__all__)
    kinds = {kind for kind in names if isinstance(kind, type)}
    expected = {kind for kind in kinds if issubclass(kind, (nn.Module, tuple))}
    assert expected <= set(torch.serialization.get_safe_globals())


@pytest.mark.parametrize(
    "kind", ["lstm", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("slstm", "lem"))]
)
@pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # torch.export.load of 2.10
def test_an_exported_program_returns_a_state(kind, tmp_path):
    recurrent, path = seqcells.Recurrent(make_cell(kind)), tmp_path / "program.pt2"
    inputs = random(4, 2, I)
    torch.export.save(torch.export.export(recurrent, (inputs,)), path)
    outputs, state = torch.export.load(path).module()(inputs)
    expected, final = recurrent(inputs)
    assert type(state) is type(final)
    same([outputs, *leaves(state)], [expected, *leaves(final)])
