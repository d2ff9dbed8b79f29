"""`Recurrent` accepts any cell and uses every method that the cell overrides."""

import copy
import pickle

import pytest
import torch
from cell_table import ANY_CELL, CELLS, CLASSIC, H, Highway, I, Leaky, Learned, make_cell
from parity import F64, by_hand, close, leaves, random, same
from torch import nn

import seqcells
from seqcells import Recurrent

T, B = 5, 3


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("name", sorted(set(ANY_CELL) - {"function"}))
def test_a_hook_on_a_cell_fires_at_every_step(name, reverse):
    cell, before, after = ANY_CELL[name](), [], []
    cell.register_forward_pre_hook(lambda module, args: before.append(args[0]))
    cell.register_forward_hook(lambda module, args, result: after.append(result))
    inputs = random(T, B, I)
    _, final = Recurrent(cell, reverse=reverse)(inputs)
    order = reversed(range(T)) if reverse else range(T)
    same(before, [inputs[t] for t in order])
    assert len(after) == T
    same(after[-1], final)


def test_a_hook_may_change_the_state():
    cell = make_cell("gru")
    handle = cell.register_forward_hook(lambda module, args, state: state * 0.5)
    inputs = random(T, B, I)
    found = Recurrent(cell)(inputs)
    expected = by_hand(cell, inputs)
    close(found[0], expected[0])
    handle.remove()
    assert not torch.equal(Recurrent(cell)(inputs)[0], found[0])


def test_a_backward_hook_fires_at_every_step():
    cell, seen = make_cell("gru"), []
    cell.register_full_backward_hook(lambda module, grad_in, grad_out: seen.append(1))
    Recurrent(cell)(random(T, B, I).requires_grad_())[0].sum().backward()
    assert len(seen) == T


@pytest.mark.parametrize("kind", CLASSIC)
def test_an_overridden_forward_is_used(kind):
    base, options = CELLS[kind].cell, CELLS[kind].options

    class Clipped(base):
        def forward(self, input, hx=None):
            state = super().forward(input, hx)
            clipped = [part.clamp(-0.1, 0.1) for part in leaves(state)]
            return clipped[0] if len(clipped) == 1 else type(state)(*clipped)

    cell = Clipped(I, H, dtype=F64, **options)
    inputs = random(T, B, I)
    outputs, final = Recurrent(cell)(inputs)
    expected, last = by_hand(cell, inputs)
    close(outputs, expected)
    close(leaves(final), last)
    assert outputs.abs().max() <= 0.1


def test_a_forward_set_on_the_instance_is_used():
    cell = make_cell("gru")
    cell.forward = lambda input, state=None: torch.ones(len(input), H, dtype=F64)
    assert Recurrent(cell)(random(T, B, I))[0].eq(1).all()


def test_overridden_step_output_and_weights_are_used():
    class Mine(seqcells.LSTMCell):
        def step(self, weights, from_input, state):
            state, gates = super().step(weights, from_input, state)
            return state._replace(hidden=state.hidden.round(decimals=2)), gates

        def output(self, state):
            return state.hidden

        def weights(self):
            weights = super().weights()
            return weights._replace(weight_hh=weights.weight_hh * 2)

    cell = Mine(I, H, dtype=F64)
    inputs = random(T, B, I)
    outputs, final = Recurrent(cell)(inputs)
    expected, last = by_hand(cell, inputs)
    close(outputs, expected)
    close(leaves(final), last)
    close(outputs, outputs.round(decimals=2))
    plain = make_cell("lstm")
    plain.load_state_dict(cell.state_dict())
    assert not torch.allclose(Recurrent(plain)(inputs)[0], outputs)


def test_an_overridden_initial_state_learns():
    class Started(seqcells.GRUCell):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.start = nn.Parameter(random(H))

        def initial_state(self, batch_size, *, device=None, dtype=None):
            return self.start.expand(batch_size, -1)

    cell = Started(I, H, dtype=F64)
    inputs, resets = random(T, B, I), torch.zeros(T, B, dtype=torch.bool)
    resets[3, 1] = True
    outputs, final = Recurrent(cell)(inputs, lengths=[5, 4, 0], resets=resets)
    expected, last = by_hand(cell, inputs, cell.initial_state(B), [5, 4, 0], resets)
    close(outputs, expected)
    close(final, last[0])
    close(final[2], cell.start)
    outputs.sum().backward()
    assert cell.start.grad.any()


def test_an_initial_state_inside_forward_learns_from_starts_and_resets():
    cell = Learned()
    Recurrent(cell)(random(T, B, I), random(B, H))[0].sum().backward()
    assert cell.start.grad is None
    Recurrent(cell)(random(T, B, I), resets=torch.ones(T, B, dtype=torch.bool))[0].sum().backward()
    assert cell.start.grad.any()


def test_the_example_of_the_docstring_runs_in_one_step_and_over_time():
    cell = Highway(I, H, dtype=F64)
    inputs, state = random(B, I), random(B, H)
    carry, candidate = (
        inputs @ cell.weight_ih.T + cell.bias_ih + state @ cell.weight_hh.T + cell.bias_hh
    ).chunk(2, -1)
    close(cell(inputs, state), carry.sigmoid() * state + (1 - carry.sigmoid()) * candidate.tanh())
    outputs, _ = Recurrent(cell)(inputs.unsqueeze(0), state)
    close(outputs[0], cell(inputs, state))


def test_weights_are_fetched_once_per_sequence():
    class Counted(seqcells.LSTMCell):
        fetched = 0

        def weights(self):
            self.fetched += 1
            return super().weights()

    cell = Counted(I, H, dtype=F64)
    Recurrent(cell)(random(50, B, I))
    assert cell.fetched == 1


def test_features_may_have_any_shape():
    class Convolved(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution = nn.Conv2d(4, 2, 3, padding=1, dtype=F64)

        def forward(self, input, state=None):
            state = torch.zeros_like(input) if state is None else state
            return self.convolution(torch.cat([input, state], 1)).tanh()

    cell, inputs = Convolved(), random(T, B, 2, 6, 6)
    outputs, final = Recurrent(cell)(inputs, lengths=[5, 0, 2])
    state = None
    for t in range(2):
        state = cell(inputs[t], state)
        close(outputs[t, 2], state[2])
    close(final[2], state[2])
    assert outputs.shape == (T, B, 2, 6, 6)
    assert not outputs[:, 1].any()


@pytest.mark.parametrize("name", sorted(set(ANY_CELL) - {"function"}))
def test_copies_compute_the_same(name):
    run = Recurrent(ANY_CELL[name](), batch_first=True, reverse=True)
    inputs = random(B, T, I)
    for copied in (copy.deepcopy(run), pickle.loads(pickle.dumps(run))):
        same(copied(inputs), run(inputs))
    assert all(key.startswith("cell.") for key in run.state_dict())


def test_repr_shows_the_cell_and_the_options():
    text = repr(Recurrent(make_cell("lstm"), batch_first=True, reverse=True))
    assert "LSTMCell(4, 5)" in text
    assert "batch_first=True, reverse=True" in text


NO_CELLS = {
    "none": None,
    "number": 3,
    "class": seqcells.LSTMCell,
    "layer": seqcells.LSTM(I, H),
    "torch_layer": nn.GRU(I, H),
    "recurrent": Recurrent(seqcells.GRUCell(I, H)),
    "stack": seqcells.Stack([seqcells.GRUCell(I, H)]),
    "one_argument": nn.Linear(I, H),
    "no_forward": nn.Module(),
    "three_arguments": lambda input, state, more: state,
}


@pytest.mark.parametrize("what", NO_CELLS.values(), ids=NO_CELLS)
def test_anything_but_a_cell_raises(what):
    with pytest.raises(TypeError, match=r"expected a cell.* got"):
        Recurrent(what)


@pytest.mark.parametrize(
    ("inputs", "state", "error", "words"),
    [
        (random(I), None, ValueError, r"expected .*got shape \(4,\)"),
        (random(()), None, ValueError, r"expected .*got shape \(\)"),
        (random(T, B, I + 1), None, ValueError, "expected 4 features, got 5"),
        (random(T, B, I).float(), None, ValueError, "expected torch.float64.*got torch.float32"),
        ([[1.0]], None, TypeError, "expected a tensor.*got list"),
        (random(T, B, I), random(B, H), TypeError, "expected a tuple of 2.*got Tensor"),
        (random(T, B, I), (random(B, H),) * 3, ValueError, "expected 2 .*got 3"),
        (random(T, B, I), (random(B, H), random(B, I)), ValueError, "cell.*expected shape.*got"),
        (random(T, I), (random(B, H), random(B, H)), ValueError, "expected shape .*got"),
        (random(T, B, I), (random(B, H).float(),) * 2, ValueError, "expected torch.float64"),
    ],
    ids=[
        "rank_1",
        "rank_0",
        "features",
        "dtype",
        "list",
        "no_tuple",
        "count",
        "shape",
        "rows",
        "f32",
    ],
)
def test_bad_input_raises(inputs, state, error, words):
    with pytest.raises(error, match=words):
        Recurrent(make_cell("lstm"))(inputs, state)


def test_lengths_without_a_batch_raise():
    with pytest.raises(ValueError, match=r"lengths: expected none .*without a batch"):
        Recurrent(Leaky())(random(T, I), lengths=[T])
