"""Modifiers around any cell, over chunks of a sequence, with parametrized weights."""

import pytest
import torch
from cell_table import (
    MODIFIED,
    MODIFY,
    H,
    I,
    Leaky,
    Nested,
    learned,
    make_cell,
    make_modified,
    make_random,
)
from parity import F64, close, leaves, random, same
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import seqcells
from seqcells import (
    DropConnect,
    LearnedState,
    Noise,
    Recurrent,
    Stack,
    VariationalDropout,
    Zoneout,
    detach_state,
    trace,
)
from seqcells.modifiers import Modifier

T, B = 6, 3
LENGTHS = [4, 6, 0]
TORCH = {"rnn_tanh": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}


@pytest.mark.parametrize("modify", [lambda cell: Zoneout(cell, 0.4), learned])
@pytest.mark.parametrize("kind", TORCH)
def test_modified_cells_of_torch_equal_ours(kind, modify):
    ours, theirs = modify(make_cell(kind)), modify(TORCH[kind](I, H, dtype=F64))
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values())))
    agree(ours, theirs)


@pytest.mark.parametrize("kind", ["rnn_tanh", "lstm"])
def test_variational_dropout_of_torchs_cells_equals_ours(kind):
    ours = VariationalDropout(make_cell(kind), 0.4)
    theirs = VariationalDropout(TORCH[kind](I, H, dtype=F64), 0.4)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    agree(ours, theirs)


def agree(ours, theirs):
    """Compare over time with the same noise, and in one step."""
    inputs, resets = random(T, B, I), torch.rand(T, B) < 0.3
    noise = Recurrent(ours).noise(inputs)
    found, expected = (
        Recurrent(cell)(inputs, None, LENGTHS, resets, noise) for cell in (theirs, ours)
    )
    close([found[0], *leaves(found[1])], [expected[0], *leaves(expected[1])])
    step = noise.at(2, ours.initial_state(B))
    close(leaves(theirs(inputs[0], noise=step)), leaves(ours(inputs[0], noise=step)))


def test_zoneout_modifies_a_cell_of_a_user():
    """With its own nested initial state, or with a given one."""
    cell, inputs = Nested(), random(T, B, I)
    outputs, final = Recurrent(Zoneout(cell, (1.0, (0.0, 0.0))))(inputs)
    same(final.fast, torch.zeros(B, H, dtype=F64))
    same(outputs, Recurrent(cell)(inputs)[0])
    run, state = Recurrent(Zoneout(Leaky(), 0.4)), random(B, H)
    noise = run.noise(inputs, state)
    now = state
    for t in range(T):
        now = noise.zone[t] * now + (1 - noise.zone[t]) * run.cell.cell(inputs[t], now)
    close(run(inputs, state, noise=noise)[1], now)
    for call in (run, run.eval()):
        with pytest.raises(TypeError, match=r"Leaky has no initial_state: implement it, or pass"):
            call(inputs)


def test_a_learned_state_fits_a_cell_of_a_user():
    cell = LearnedState(Nested().float()).double()
    assert [name for name, _ in cell.named_parameters(recurse=False)] == [
        "start_fast",
        "start_slow_0",
        "start_slow_1",
    ]
    assert type(cell(random(B, I))) is type(cell.cell(random(B, I)))


def test_a_learned_state_gets_gradients_from_starts_resets_and_empty_rows():
    cell, inputs = learned(make_cell("lstm")), random(T, B, I)
    resets = torch.zeros(T, B, dtype=torch.bool)
    _, final = Recurrent(cell)(inputs, lengths=LENGTHS)
    same([part[2] for part in final], [cell.start_hidden, cell.start_cell])
    carried = cell.cell.initial_state(B)
    Recurrent(cell)(inputs, carried)[0].sum().backward()
    assert cell.start_cell.grad is None
    for options in ({"lengths": [0, 0, 0]}, {"initial_state": carried, "resets": ~resets}, {}):
        cell.zero_grad()
        outputs, final = Recurrent(cell)(inputs, **options)
        (outputs.sum() + final.hidden.sum() + final.cell.sum()).backward()
        assert cell.start_cell.grad.all()


@pytest.mark.parametrize("inside", [True, False], ids=["inside", "around"])
@pytest.mark.parametrize(("modifier", "kind"), [(m, k) for m, k in MODIFIED if k == "lstm"])
def test_a_hook_sees_every_step_and_changes_nothing(modifier, kind, inside):
    cell, inputs, seen = make_modified(modifier, kind), random(T, B, I), []
    noise = Recurrent(cell).noise(inputs)
    expected = Recurrent(cell)(inputs, lengths=LENGTHS, noise=noise)
    hooked = cell.cell if inside else cell
    hooked.register_forward_hook(lambda module, args, state: seen.append(state))
    found = Recurrent(cell)(inputs, lengths=LENGTHS, noise=noise)
    close([found[0], *found[1]], [expected[0], *expected[1]])
    assert len(seen) == T
    with pytest.raises(TypeError, match="without hooks"):
        trace(Recurrent(cell), inputs)


class Halved(seqcells.GRUCell):
    def forward(self, input, hx=None):
        return super().forward(input, hx) / 2


def test_an_overridden_forward_is_used():
    cell, inputs = Halved(I, H, dtype=F64), random(T, B, I)
    run = Recurrent(Zoneout(cell, 0.5))
    noise = run.noise(inputs)
    now = cell.initial_state(B)
    for t in range(T):
        now = noise.zone[t] * now + (1 - noise.zone[t]) * cell(inputs[t], now)
    close(run(inputs, noise=noise)[1], now)
    with pytest.raises(TypeError, match="DropConnect: expected a GatedCell that does not override"):
        DropConnect(cell, 0.5)


class Blink(Modifier):
    """A user's modifier: hide the hidden state at every second step."""

    def draw(self, state, steps):
        hidden = self.output(state)
        factor = hidden.new_ones(steps, *hidden.shape)
        factor[::2] = 0
        return Noise(hidden=factor)


def test_a_modifier_of_a_user_composes():
    cell, inputs = make_random("gru_reset_before", I, H), random(T, B, I)
    noise = Recurrent(VariationalDropout(Blink(cell), 0.5)).noise(inputs)
    assert noise.hidden.shape == (T, B, H)
    assert not noise.hidden[::2].any()
    assert set(noise.hidden[1].unique().tolist()) == {0.0, 2.0}


# Truncated backpropagation.


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_masks_of_a_sequence_are_carried_from_chunk_to_chunk(kind):
    """The example of `Recurrent.noise`: chunks equal the whole sequence with the same masks."""
    run = Recurrent(make_modified("composed", kind))
    inputs, state, noise, drawn, chunks = random(T, B, I), None, None, [], []
    for chunk in inputs.split(2):
        noise = run.noise(chunk, state, before=noise)
        outputs, state = run(chunk, state, noise=noise)
        outputs.sum().backward()
        state = detach_state(state)
        drawn.append(noise)
        chunks.append(outputs)
    zone = [torch.cat(parts) for parts in zip(*(leaves(noise.zone) for noise in drawn))]
    assert not torch.equal(*(leaves(noise.zone)[0] for noise in drawn[:2]))
    whole = drawn[0]._replace(zone=zone[0] if kind == "gru" else zone)
    close(torch.cat(chunks), run(inputs, noise=whole)[0])


def test_masks_of_a_stack_are_carried():
    pair = (make_modified("composed", "lstm"), make_modified("recurrent", "gru"))
    stack = Stack([VariationalDropout(make_cell("gru", I, 4), 0.5), pair], batch_first=True)
    inputs = random(B, T, I)
    first = stack.noise(inputs)
    then = stack.noise(inputs[:, :2], before=first)
    same(then[0].hidden, first[0].hidden)
    same(then[1][0].weight_hh, first[1][0].weight_hh)
    assert not torch.equal(then[1][1].candidate, first[1][1].candidate[:2])
    same(stack(inputs, noise=first), stack(inputs, noise=first))


def test_a_mask_of_training_is_not_carried_into_evaluation():
    run, inputs = Recurrent(VariationalDropout(make_cell("gru"), 0.5)), random(T, B, I)
    before = run.noise(inputs)
    assert run.eval().noise(inputs, before=before) == Noise()


def test_batch_first_and_unbatched_input_are_equal():
    cell, inputs = make_modified("composed", "lstm"), random(T, 1, I)
    run, turned = Recurrent(cell), Recurrent(cell, batch_first=True)
    noise = turned.noise(inputs[:, 0])
    outputs, final = run(inputs, noise=noise)
    same(turned(inputs.transpose(0, 1), noise=noise)[0], outputs.transpose(0, 1))
    alone, last = turned(inputs[:, 0], noise=noise)
    same(alone, outputs[:, 0])
    same(last, [part[0] for part in final])
    step = noise.at(0, cell.initial_state(1))
    same(cell(inputs[0, 0], noise=step), [part[0] for part in cell(inputs[0], noise=step)])
    assert cell(inputs[0, 0]).hidden.shape == (H,)


# Parametrized weights.


class Counted(nn.Module):
    evaluated = 0

    def forward(self, weight):
        self.evaluated += 1
        return weight * 2


@pytest.mark.parametrize("modify", [lambda cell: cell, *MODIFY.values()])
@pytest.mark.parametrize("kind", ["lstm", "gru", "gru_reset_before", "mgu", "layer_norm_lstm"])
def test_parametrizations_are_evaluated_once_per_sequence(kind, modify):
    cell, counts = make_cell(kind, I, H), {}
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        counts[name] = Counted()
        parametrize.register_parametrization(cell, name, counts[name])
    run, inputs = Recurrent(modify(cell)), random(T, B, I)
    calls = [lambda: run(inputs, lengths=LENGTHS), lambda: run.cell(inputs[0])]
    for call in [*calls, lambda: trace(run, inputs)]:
        for count in counts.values():
            count.evaluated = 0
        call()
        assert [count.evaluated for count in counts.values()] == [1] * 4


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_weight_norm_and_orthogonal_parametrizations_train(kind):
    cell, inputs = make_cell(kind, I, H), random(T, B, I)
    parametrizations.weight_norm(cell, "weight_ih")
    parametrizations.orthogonal(cell, "weight_hh")
    plain = make_cell(kind, I, H)
    plain.load_state_dict({name: getattr(cell, name) for name in plain.state_dict()})
    close(Recurrent(cell)(inputs), Recurrent(plain)(inputs))
    run = Recurrent(DropConnect(cell, 0.3))
    run(inputs)[0].sum().backward()
    assert all(parameter.grad.any() for parameter in run.parameters())
