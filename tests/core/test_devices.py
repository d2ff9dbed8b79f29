"""No call reads the values of lengths or resets: meta tensors run through."""

import pytest
import torch
from cell_table import ANY_CELL, CLASSIC, LAYERS, make_cell, make_layers
from pairwise import pairs_of
from parity import leaves, random
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


def some_resets():
    return torch.empty(T, B, dtype=torch.bool, device=META)


def all_meta(*states):
    return all(part.is_meta for state in states for part in leaves(state))


@pairs_of(kind=list(LAYERS), lengths=LENGTHS)
def test_layers_run_on_meta_tensors(kind, lengths):
    ours, _ = make_layers(kind, num_layers=2, bidirectional=True, device=META)
    output, final = ours(random(T, B, I).to(META), lengths=lengths, resets=some_resets())
    assert output.shape == (T, B, 2 * (ours.proj_size or H))
    assert all_meta(output, final)


@pairs_of(name=list(ANY_CELL), reverse={"forward": False, "reverse": True}, lengths=LENGTHS)
def test_recurrent_runs_on_meta_tensors(name, reverse, lengths):
    cell = ANY_CELL[name]()
    cell = cell.to(META) if isinstance(cell, nn.Module) else cell
    run = Recurrent(cell, reverse=reverse)
    assert all_meta(run(random(T, B, I).to(META), None, lengths, some_resets()))


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_a_stack_runs_on_meta_tensors(lengths):
    stack = Stack([make_cell("gru"), (make_cell("lstm", 5), nn.GRUCell(5, 3).double())]).to(META)
    assert all_meta(stack(random(T, B, I).to(META), None, lengths, some_resets()))


@pairs_of(kind=CLASSIC, lengths=LENGTHS)
def test_trace_runs_on_meta_tensors(kind, lengths):
    run = Recurrent(make_cell(kind, device=META))
    traced = trace(run, random(T, B, I).to(META), None, lengths, some_resets())
    assert all_meta(traced.outputs, traced.states, traced.final_state, tuple(traced.gates.values()))
