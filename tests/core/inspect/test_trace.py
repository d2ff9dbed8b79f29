"""`trace` returns what `Recurrent` computes."""

import pytest
import torch
from cell_table import CLASSIC, LAYERS, Highway, Leaky, make_cell, make_layers
from parity import by_hand, close, leaves, random, random_state, same
from torch import nn

from seqcells import GRUCell, Noise, Recurrent, backend, trace

T, B, I, H = 6, 3, 4, 5  # noqa: E741
LENGTHS = [4, 6, 0]
KINDS = pytest.mark.parametrize("kind", CLASSIC)
DIRECTIONS = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


def some_resets():
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[2, 0] = resets[5, 1] = True
    return resets


@DIRECTIONS
@KINDS
@pytest.mark.parametrize(
    ("lengths", "resets"),
    [(None, None), (LENGTHS, some_resets())],
    ids=["full", "ragged_resets"],
)
def test_outputs_and_final_state_equal_recurrents(kind, lengths, resets, reverse):
    cell = make_cell(kind)
    run, inputs, state = Recurrent(cell, reverse=reverse), random(T, B, I), random_state(cell, B)
    traced = trace(run, inputs, state, lengths, resets)
    with backend("reference"):
        outputs, final = run(inputs, state, lengths, resets)
    same(traced.outputs, outputs)
    same(traced.final_state, final)
    close(run(inputs, state, lengths, resets), (outputs, final))
    assert type(traced.final_state) is type(final)
    assert type(traced.states) is type(final)


@DIRECTIONS
@KINDS
def test_batch_first_and_unbatched_input_are_equal(kind, reverse):
    cell, inputs = make_cell(kind), random(T, B, I)
    expected = trace(Recurrent(cell, reverse=reverse), inputs, lengths=LENGTHS)
    turned = Recurrent(cell, reverse=reverse, batch_first=True)
    found = trace(turned, inputs.transpose(0, 1), lengths=LENGTHS)
    for one, other in zip(everything(found), everything(expected)):
        same(one, other.transpose(0, 1))
    same(found.final_state, expected.final_state)

    expected = trace(Recurrent(cell, reverse=reverse), inputs[:, :1])
    found = trace(turned, inputs[:, 0])
    for one, other in zip(everything(found), everything(expected)):
        close(one, other[:, 0])
    close(leaves(found.final_state), [part[0] for part in leaves(expected.final_state)])


def everything(traced):
    return [traced.outputs, *leaves(traced.states), *traced.gates.values()]


def test_gates_of_a_cell_of_a_user_are_returned():
    cell, inputs = Highway(I, H, dtype=torch.float64), random(T, B, I)
    traced = trace(Recurrent(cell), inputs)
    close(traced.outputs, by_hand(cell, inputs)[0])
    assert list(traced.gates) == ["carry", "candidate"]
    before = torch.cat([torch.zeros(1, B, H), traced.states[:-1]])
    carry, candidate = traced.gates.values()
    close(traced.states, carry * before + (1 - carry) * candidate)


def test_gradients_flow_through_the_gates():
    cell = make_cell("lstm")
    trace(Recurrent(cell), random(T, B, I)).gates["forget"].sum().backward()
    assert cell.weight_hh.grad.any()


def test_a_batch_of_zero_rows_is_traced():
    traced = trace(Recurrent(make_cell("lstm")), random(T, 0, I))
    assert traced.gates["forget"].shape == (T, 0, H)


def hooked():
    cell = make_cell("gru")
    cell.register_forward_hook(lambda *_: None)
    return Recurrent(cell)


class OwnForward(GRUCell):
    def forward(self, input, hx=None):
        return super().forward(input, hx) / 2


GRU = make_cell("gru")


@pytest.mark.parametrize(
    ("what", "inputs", "error", "words"),
    [
        (GRU, random(T, B, I), TypeError, "expected a Recurrent .*, got GRUCell"),
        (nn.LSTM(I, H), random(T, B, I), TypeError, "expected a Recurrent .*, got LSTM"),
        (Recurrent(Leaky()), random(T, B, I), TypeError, "GatedCell.*got Leaky"),
        (Recurrent(nn.GRUCell(I, H)), random(T, B, I), TypeError, "GatedCell.*got GRUCell"),
        (Recurrent(OwnForward(I, H)), random(T, B, I), TypeError, "forward of its own"),
        (hooked(), random(T, B, I), TypeError, "without hooks"),
        (Recurrent(GRU), random(0, B, I), ValueError, "at least one step"),
        (Recurrent(GRU, batch_first=True), random(B, 0, I), ValueError, "at least one step"),
        (Recurrent(GRU), random(I), ValueError, "expected .*got shape"),
        (Recurrent(GRU), random(()), ValueError, "expected .*got shape"),
        (Recurrent(GRU), random(T, B, I + 1), ValueError, "expected 4 features, got 5"),
        (Recurrent(GRU), "text", TypeError, "expected a tensor, got str"),
    ],
)
def test_bad_input_raises(what, inputs, error, words):
    with pytest.raises(error, match=words):
        trace(what, inputs)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_returns_a_trace_per_layer_and_direction(kind, batch_first):
    options = {"num_layers": 2, "bidirectional": True, "batch_first": batch_first}
    layers = make_layers(kind, **options)[0]
    inputs = random(B, T, I) if batch_first else random(T, B, I)
    found = trace(layers, inputs, lengths=LENGTHS)
    assert list(found) == ["l0", "l0_reverse", "l1", "l1_reverse"]
    with backend("reference"):
        outputs, final = layers(inputs, lengths=LENGTHS)
    same(torch.cat([found["l1"].outputs, found["l1_reverse"].outputs], -1), outputs)
    ends = [leaves(traced.final_state) for traced in found.values()]
    same([torch.stack(parts) for parts in zip(*ends)], leaves(final))
    close(layers(inputs, lengths=LENGTHS)[0], outputs)
    for traced in found.values():
        same(traced.outputs, leaves(traced.states)[0])
        assert all(gate.shape[:2] == inputs.shape[:2] for gate in traced.gates.values())


def test_layers_take_unbatched_input_and_a_state():
    layers, inputs = make_layers("lstm")[0], random(T, I)
    state = random(1, H), random(1, H)
    traced = trace(layers, inputs, state)["l0"]
    with backend("reference"):
        outputs, final = layers(inputs, state)
    same(traced.outputs, outputs)
    same([part.unsqueeze(0) for part in traced.final_state], list(final))
    assert traced.gates["forget"].shape == (T, H)


def test_tracing_does_not_change_a_layer():
    layers, inputs = make_layers("gru")[0], random(T, B, I)
    before = dict(vars(layers))
    trace(layers, inputs)["l0"].gates["update"].sum().backward()
    assert vars(layers) == before
    assert layers.weight_hh_l0.grad.any()


def test_unsupported_arguments_of_layers_raise():
    layers, inputs = make_layers("gru")[0], random(T, B, I)
    with pytest.raises(TypeError, match="noise: expected None"):
        trace(layers, inputs, noise=Noise())
    with pytest.raises(TypeError, match="expected a padded tensor, got PackedSequence"):
        trace(layers, nn.utils.rnn.pack_sequence([inputs[:, 0]]))
