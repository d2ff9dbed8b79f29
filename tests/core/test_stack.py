"""A `Stack` of any cells equals a composition of loops."""

import copy

import pytest
import torch
import torch.nn.functional as F
from cell_table import Leaky, function, make_cell
from parity import F64, by_hand, close, leaves, random, same
from torch import nn

import seqcells
from seqcells import Recurrent, Stack

T, B = 5, 3
LENGTHS = [3, 5, 0]


def cells():
    """Return layers of different cells and sizes; the second and the last are bidirectional."""
    return [
        nn.GRUCell(4, 5, dtype=F64),
        (make_cell("lstm", 5, 3), make_cell("gru_reset_before", 5, 4)),
        make_cell("rnn_tanh", 7, 6),
        (make_cell("rnn_relu", 6, 3), nn.LSTMCell(6, 3, dtype=F64)),
    ]


def runs(entry):
    """Return the cells of a layer, each with its direction."""
    pair = entry if isinstance(entry, tuple) else (entry,)
    return [(cell, reverse) for cell, reverse in zip(pair, (False, True))]


def composed(entries, inputs, lengths=None, resets=None, states=None, change=lambda n, x, y: y):
    """Run the stack layer by layer; `change` maps each layer's number, input and output."""
    final = []
    for number, entry in enumerate(entries):
        start = [None] * 2 if states is None else states[number]
        if not isinstance(entry, tuple):
            start = [None if states is None else states[number]]
        results = [
            by_hand(cell, inputs, state, lengths, resets, reverse)
            for (cell, reverse), state in zip(runs(entry), start)
        ]
        inputs = change(number, inputs, torch.cat([outputs for outputs, _ in results], -1))
        final.append([state for _, state in results])
    return inputs, final


def some_resets():
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[2, 0] = resets[1, 1] = resets[4, 1] = True
    return resets


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
@pytest.mark.parametrize("resets", [None, some_resets()], ids=["no_resets", "resets"])
def test_outputs_and_final_state_equal_the_composition(lengths, resets):
    entries, inputs = cells(), random(T, B, 4)
    outputs, final = Stack(entries)(inputs, None, lengths, resets)
    expected, last = composed(entries, inputs, lengths, resets)
    close(outputs, expected)
    close(leaves(final), leaves(last))
    assert type(final) is tuple
    assert len(final) == len(entries)
    assert isinstance(final[1][0], seqcells.LSTMState)


def test_the_final_state_is_a_valid_initial_state():
    entries, inputs = cells(), random(T, B, 4)
    stack = Stack(entries)
    _, state = stack(random(T, B, 4))
    outputs, final = stack(inputs, state)
    expected, last = composed(entries, inputs, states=state)
    close(outputs, expected)
    close(leaves(final), leaves(last))
    partly = (None, (None, state[1][1]), None, None)
    assert not torch.allclose(stack(inputs, partly)[0], stack(inputs)[0])
    same(stack(inputs, (None, None, None, None)), stack(inputs))


def test_a_carried_state_continues_a_unidirectional_stack():
    stack = Stack([make_cell("lstm", 4, 5), Leaky5(), nn.GRUCell(5, 2, dtype=F64)])
    inputs = random(T, B, 4)
    outputs, final = stack(inputs)
    first, state = stack(inputs[:2])
    rest, last = stack(inputs[2:], seqcells.detach_state(state))
    close(torch.cat([first, rest]), outputs)
    close(last, final)


class Leaky5(Leaky):
    def __init__(self):
        super().__init__()
        self.inward = nn.Linear(5, 5, dtype=F64)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
def test_residuals_are_added_where_the_widths_agree(lengths):
    entries = [
        make_cell("gru", 4, 4),
        make_cell("rnn_tanh", 4, 6),
        (make_cell("gru", 6, 3), make_cell("lstm", 6, 3)),
    ]
    inputs = random(T, B, 4)
    if lengths:
        valid = torch.arange(T).unsqueeze(1) < torch.tensor(lengths)
        inputs[~valid] = float("nan")
    outputs, _ = Stack(entries, residual=True)(inputs, lengths=lengths)
    clean = inputs.nan_to_num(0.0)
    expected, _ = composed(entries, clean, lengths, change=lambda n, x, y: y if n == 1 else x + y)
    close(outputs, expected)
    if lengths:
        assert not outputs[~valid].any()


def test_dropout_runs_between_layers_and_not_in_eval():
    entries, inputs = cells(), random(T, B, 4)
    stack = Stack(entries, dropout=0.5)
    torch.manual_seed(4)
    outputs, _ = stack(inputs)
    torch.manual_seed(4)
    drop = lambda n, x, y: y if n == 3 else F.dropout(y, 0.5)  # noqa: E731
    expected, _ = composed(entries, inputs, change=drop)
    close(outputs, expected)
    assert not torch.equal(stack(inputs)[0], outputs)
    plain, _ = composed(entries, inputs)
    close(stack.eval()(inputs)[0], plain)


def test_dropout_comes_after_the_residual():
    entries, inputs = [make_cell("gru", 4, 4), make_cell("gru", 4, 4)], random(T, B, 4)
    torch.manual_seed(4)
    outputs, _ = Stack(entries, dropout=0.5, residual=True)(inputs)
    torch.manual_seed(4)
    change = lambda n, x, y: F.dropout(x + y, 0.5, n == 0)  # noqa: E731
    close(outputs, composed(entries, inputs, change=change)[0])


def test_batch_first_and_unbatched_input_are_equal():
    entries, inputs, resets = cells(), random(T, B, 4), some_resets()
    outputs, final = Stack(entries)(inputs, None, LENGTHS, resets)
    found = Stack(entries, batch_first=True)(inputs.transpose(0, 1), None, LENGTHS, resets.T)
    same(found[0], outputs.transpose(0, 1))
    same(found[1], final)
    outputs, final = Stack(entries)(inputs[:, :1], resets=resets[:, :1])
    alone = Stack(entries, batch_first=True)(inputs[:, 0], resets=resets[:, 0])
    close(alone[0], outputs[:, 0])
    close(leaves(alone[1]), [part[0] for part in leaves(final)])


def test_one_layer_equals_a_recurrent():
    cell, inputs = make_cell("lstm"), random(T, B, 4)
    outputs, (final,) = Stack([cell])(inputs)
    same(outputs, Recurrent(cell)(inputs)[0])
    same(final, Recurrent(cell)(inputs)[1])


def test_layers_have_the_documented_names():
    stack = Stack([make_cell("gru"), (make_cell("gru", 5, 3), make_cell("gru", 5, 3))])
    assert isinstance(stack.layers[0], Recurrent)
    forward, backward = stack.layers[1]
    assert (forward.reverse, backward.reverse) == (False, True)
    assert "layers.1.1.cell.weight_hh" in stack.state_dict()
    shared = make_cell("gru", 5, 5)
    assert len(list(Stack([shared, shared]).parameters())) == 4
    twice = copy.deepcopy(stack)
    inputs = random(T, B, 4)
    same(twice(inputs), stack(inputs))


def test_functions_and_module_lists_are_accepted():
    inputs = random(T, B, 4)
    close(Stack([function])(inputs)[0], by_hand(function, inputs)[0])
    listed = nn.ModuleList([make_cell("gru"), make_cell("gru", 5, 2)])
    assert Stack(listed)(inputs)[0].shape == (T, B, 2)


def test_gradients_reach_every_layer():
    stack = Stack(cells(), dropout=0.2)
    stack(random(T, B, 4))[0].square().sum().backward()
    assert all(parameter.grad.any() for parameter in stack.parameters())


GRU = make_cell("gru", 4, 4)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Stack([]), ValueError, "at least one layer"),
        (lambda: Stack(GRU), TypeError, "expected a list of cells, got GRUCell"),
        (lambda: Stack([3]), TypeError, "expected a cell.*got int"),
        (lambda: Stack([nn.LSTM(4, 4)]), TypeError, "expected a cell.*got LSTM"),
        (lambda: Stack([(GRU,)]), TypeError, "pair of cells, got 1"),
        (lambda: Stack([(GRU, GRU, GRU)]), TypeError, "pair of cells, got 3"),
        (lambda: Stack([GRU], dropout=1.5), ValueError, r"dropout: expected .*got 1\.5"),
        (lambda: Stack([GRU], dropout=-1), ValueError, "dropout: expected .*got -1"),
        (lambda: Stack([GRU])(random(T, B, 4), random(B, 4)), TypeError, "expected .*got Tensor"),
        (lambda: Stack([GRU])(random(T, B, 4), (None, None)), ValueError, "expected 1, got 2"),
        (
            lambda: Stack([(GRU, GRU)])(random(T, B, 4), [[random(B, 4)]]),
            ValueError,
            r"initial_state\[0\].*expected 2, got 1",
        ),
        (lambda: Stack([GRU])(random(T, B, 4), lengths=[1, 2]), ValueError, "lengths"),
        (lambda: Stack([GRU])(random(T, 4), lengths=[1]), ValueError, "lengths.*without a batch"),
        (lambda: Stack([GRU])(random(4)), ValueError, r"expected .*got shape \(4,\)"),
        (lambda: Stack([GRU, make_cell("gru", 5)])(random(T, B, 4)), ValueError, "5 features"),
    ],
)
def test_bad_input_raises(make, error, words):
    with pytest.raises(error, match=words):
        make()
