"""`Recurrent` with any cell equals a loop over rows and steps."""

import pytest
import torch
from cell_table import ANY_CELL, CLASSIC, H, I, make_cell, some_state
from pairwise import pairs_of
from parity import F64, by_hand, close, leaves, random, same
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqcells import Recurrent, detach_state

pytestmark = pytest.mark.usefixtures("each_backend")

T, B = 6, 4
LENGTHS = [3, 6, 0, 4]

# The readable loop, and the kernel where the cell has one.
BACKENDS = ["reference", "auto"]
ON_EACH_BACKEND = pytest.mark.parametrize("each_backend", BACKENDS, indirect=True)
DIRECTIONS = {"forward": False, "reverse": True}
STATES = {"fresh": False, "carried": True}
EVERY_CELL = pairs_of(name=list(ANY_CELL), each_backend=BACKENDS)
BOTH_WAYS = pairs_of(name=list(ANY_CELL), reverse=DIRECTIONS, each_backend=BACKENDS)
FROM_ANY_STATE = pairs_of(
    name=list(ANY_CELL), carried=STATES, reverse=DIRECTIONS, each_backend=BACKENDS
)


def some_resets():
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[0, 0] = resets[2, 0] = resets[3, 1] = resets[2, 1] = resets[5, 3] = resets[3, 3] = True
    return resets


FORMS = {
    "full": (None, None),
    "ragged": (LENGTHS, None),
    "resets": (None, some_resets()),
    "ragged_resets": (LENGTHS, some_resets()),
}


@pairs_of(
    name=list(ANY_CELL), form=FORMS, carried=STATES, reverse=DIRECTIONS, each_backend=BACKENDS
)
def test_outputs_and_final_state_equal_a_loop(name, form, carried, reverse):
    cell = ANY_CELL[name]()
    lengths, resets = form
    inputs = random(T, B, I)
    state = some_state(cell, B) if carried else None
    found = Recurrent(cell, reverse=reverse)(inputs, state, lengths, resets)
    expected = by_hand(cell, inputs, state, lengths, resets, reverse)
    close(found[0], expected[0])
    close(leaves(found[1]), expected[1])
    assert type(found) is tuple
    assert type(found[1]) is type(cell(inputs[0]))


@FROM_ANY_STATE
def test_padding_changes_no_result(name, carried, reverse):
    cell = ANY_CELL[name]()
    state = some_state(cell, B) if carried else None
    clean = random(T, B, I)
    valid = torch.arange(T).unsqueeze(1) < torch.tensor(LENGTHS)
    dirty = clean.clone()
    dirty[~valid] = float("nan")
    dirty[5, 0] = float("inf")
    results = []
    for inputs in (clean, dirty):
        inputs.requires_grad_()
        if isinstance(cell, nn.Module):
            cell.zero_grad()
        outputs, final = Recurrent(cell, reverse=reverse)(inputs, state, LENGTHS)
        (outputs.sum() + sum(part.square().sum() for part in leaves(final))).backward()
        assert not outputs[~valid].any()
        assert not inputs.grad[~valid].any()
        weights = cell.parameters() if isinstance(cell, nn.Module) else []
        gradients = [inputs.grad, *(w.grad for w in weights if w.grad is not None)]
        results.append([outputs, *leaves(final), *gradients])
    same(*results)


@pairs_of(kind=["rnn_tanh", "gru", "lstm"], reverse=DIRECTIONS, each_backend=BACKENDS)
def test_lengths_equal_packed_input_to_torch(kind, reverse):
    """Compare with one direction of torch's bidirectional layer."""
    lengths = [3, 6, 1, 4]
    twin = {"rnn_tanh": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[kind]
    layer = twin(I, H, bidirectional=True, dtype=F64)
    cell = make_cell(kind)
    suffix = "_l0_reverse" if reverse else "_l0"
    cell.load_state_dict({name: getattr(layer, name + suffix) for name in cell.state_dict()})
    inputs = random(T, B, I)
    packed, state = layer(pack_padded_sequence(inputs, lengths, enforce_sorted=False))
    expected = pad_packed_sequence(packed, total_length=T)[0].chunk(2, dim=-1)[reverse]
    outputs, final = Recurrent(cell, reverse=reverse)(inputs, lengths=torch.tensor(lengths))
    close(outputs, expected)
    close(leaves(final), [part[int(reverse)] for part in leaves(state)])


@BOTH_WAYS
def test_resets_separate_sequences(name, reverse):
    """One row holds three sequences end to end; each is also run alone."""
    cell = ANY_CELL[name]()
    parts = [random(size, 1, I) for size in (3, 1, 2)]
    resets = torch.zeros(T, 1, dtype=torch.bool)
    resets[[2, 3] if reverse else [3, 4]] = True
    run = Recurrent(cell, reverse=reverse)
    outputs, final = run(torch.cat(parts), resets=resets)
    alone = [run(part) for part in parts]
    close(outputs, torch.cat([part[0] for part in alone]))
    close(final, alone[0 if reverse else -1][1])


@ON_EACH_BACKEND
def test_a_reset_restarts_from_the_initial_state_not_the_carried_one():
    cell = make_cell("gru")
    inputs, carried = random(2, 1, I), random(1, H) + 10
    resets = torch.tensor([[True], [False]])
    with_carried = Recurrent(cell)(inputs, carried, resets=resets)
    close(with_carried, Recurrent(cell)(inputs))


@BOTH_WAYS
def test_batch_first_equals_time_first(name, reverse):
    cell = ANY_CELL[name]()
    state = some_state(cell, B)
    inputs, resets = random(T, B, I), some_resets()
    outputs, final = Recurrent(cell, reverse=reverse)(inputs, state, LENGTHS, resets)
    turned = Recurrent(cell, reverse=reverse, batch_first=True)
    found = turned(inputs.transpose(0, 1), state, torch.tensor(LENGTHS), resets.T)
    same(found[0], outputs.transpose(0, 1))
    same(found[1], final)


@FROM_ANY_STATE
def test_unbatched_input_equals_a_batch_of_one(name, carried, reverse):
    cell = ANY_CELL[name]()
    state = some_state(cell, 1) if carried else None
    inputs, resets = random(T, I), some_resets()[:, 0]
    expected, final = by_hand(cell, inputs.unsqueeze(1), state, None, resets[:, None], reverse)
    if carried:
        state = torch.utils._pytree.tree_map(lambda part: part[0], state)
    for batch_first in (False, True):
        run = Recurrent(cell, reverse=reverse, batch_first=batch_first)
        outputs, found = run(inputs, state, resets=resets)
        close(outputs, expected[:, 0])
        close(leaves(found), [part[0] for part in final])


@BOTH_WAYS
def test_a_carried_state_continues_the_run(name, reverse):
    cell = ANY_CELL[name]()
    run = Recurrent(cell, reverse=reverse)
    inputs, lengths = random(T, B, I), torch.tensor([6, 6, 2, 5])
    outputs, final = run(inputs, lengths=lengths)
    first, second = (inputs[4:], inputs[:4]) if reverse else (inputs[:4], inputs[4:])
    ends = [(lengths - 4).clamp(min=0), lengths.clamp(max=4)]
    if not reverse:
        ends.reverse()
    if not hasattr(cell, "initial_state"):  # a row of length 0 has no state to carry
        outputs, final = run(inputs)
        ends = [None, None]
    start, state = run(first, lengths=ends[0])
    rest, last = run(second, state, lengths=ends[1])
    close(torch.cat([rest, start] if reverse else [start, rest]), outputs)
    close(last, final)


@EVERY_CELL
def test_no_steps_and_no_rows(name):
    cell = ANY_CELL[name]()
    width = by_hand(cell, random(1, 1, I))[0].shape[-1]
    state = some_state(cell, B)
    outputs, final = Recurrent(cell)(random(0, B, I), state)
    assert outputs.shape == (0, B, width)
    same(final, state)
    outputs, final = Recurrent(cell)(random(0, B, I), lengths=[0] * B)
    assert outputs.shape == (0, B, width)
    assert [part.shape for part in leaves(final)] == [part.shape for part in leaves(state)]
    outputs, final = Recurrent(cell)(random(0, I))
    assert outputs.shape == (0, width)
    outputs, final = Recurrent(cell)(random(T, 0, I), lengths=[])
    assert outputs.shape == (T, 0, width)
    assert all(len(part) == 0 for part in leaves(final))


@pairs_of(kind=CLASSIC, each_backend=BACKENDS)
def test_detach_state_cuts_the_history(kind):
    run = Recurrent(make_cell(kind))
    inputs = random(2, T, B, I).requires_grad_()
    _, state = run(inputs[0])
    outputs, _ = run(inputs[1], detach_state(state))
    outputs.sum().backward()
    assert not inputs.grad[0].any()
    assert inputs.grad[1].any()
    assert type(detach_state(state)) is type(state)
