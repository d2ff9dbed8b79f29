"""Where values cannot be read for nothing, nothing is read: meta tensors run through."""

import pytest
import torch
from core_helpers import LAYERS, OUR_CELLS, leaves, make_cell, make_layers, random
from invented_cells import MAKE
from torch import nn

from seqcells import Recurrent, Stack, trace

T, B, I, H = 3, 3, 4, 5  # noqa: E741
META = "meta"

LENGTHS = {
    "none": None,
    "list": [3, 0, 2],
    "cpu": torch.tensor([3, 0, 2]),
    "meta": torch.empty(B, dtype=torch.int32, device=META),
}
lengths = pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)


def some_resets():
    return torch.empty(T, B, dtype=torch.bool, device=META)


def all_meta(*states):
    return all(part.is_meta for state in states for part in leaves(state))


@lengths
@pytest.mark.parametrize("kind", LAYERS)
def test_layers(kind, lengths):
    ours, _ = make_layers(kind, num_layers=2, bidirectional=True, device=META)
    output, final = ours(random(T, B, I).to(META), lengths=lengths, resets=some_resets())
    assert output.shape == (T, B, 2 * (ours.proj_size or H))
    assert all_meta(output, final)


@lengths
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("name", MAKE)
def test_recurrent(name, reverse, lengths):
    cell = MAKE[name]()
    cell = cell.to(META) if isinstance(cell, nn.Module) else cell
    run = Recurrent(cell, reverse=reverse)
    assert all_meta(run(random(T, B, I).to(META), None, lengths, some_resets()))


@lengths
def test_stack(lengths):
    stack = Stack([make_cell("gru"), (make_cell("lstm", 5), nn.GRUCell(5, 3).double())]).to(META)
    assert all_meta(stack(random(T, B, I).to(META), None, lengths, some_resets()))


@lengths
@pytest.mark.parametrize("kind", OUR_CELLS)
def test_trace(kind, lengths):
    run = Recurrent(make_cell(kind, device=META))
    traced = trace(run, random(T, B, I).to(META), None, lengths, some_resets())
    assert all_meta(traced.outputs, traced.states, traced.final_state, tuple(traced.gates.values()))
