"""Initialisers on our modules and on torch's."""

import math

import pytest
import torch
from cell_table import make_cell
from parity import F64, close, leaves, random
from torch import nn

import seqcells
from seqcells.init import chrono_, forget_bias_, identity_, orthogonal_

H = 5
LONGEST = 100
SIZES = {"input_size": 4, "hidden_size": H, "dtype": F64}
DEEP = {**SIZES, "num_layers": 2, "bidirectional": True}
TOO_SHORT = "expected a finite number of at least 2 steps"


class Keeper(seqcells.GatedCell):
    """A user's cell with a forget gate as its last gate and no input gate."""

    gates = ("candidate", "forget")

    @staticmethod
    def activate(from_input, from_hidden, state):
        candidate, forget = (from_input + from_hidden).chunk(2, dim=-1)
        candidate, forget = candidate.tanh(), forget.sigmoid()
        return forget * state + (1 - forget) * candidate, (candidate, forget)


class LateKeeper(seqcells.GatedCell):
    """A user's cell with a forget gate that has no product with the input."""

    gates = ("other", "candidate", "forget")
    input_gates = gates[:2]
    late_gates = ("forget",)

    @staticmethod
    def activate(from_input, from_hidden, state, *, multiply):
        other, candidate = (from_input + from_hidden).chunk(2, dim=-1)
        candidate, forget = candidate.tanh(), multiply(candidate, "forget").sigmoid()
        return forget * state + (1 - forget) * candidate, (other, candidate, forget)


def stack():
    pair = (seqcells.LSTMCell(**SIZES), Keeper(**SIZES))
    return seqcells.Stack([pair, nn.GRUCell(2 * H, H, dtype=F64)])


RECURRENT = {
    "our_cell": (lambda: seqcells.GRUCell(**SIZES), 3),
    "torch_cell": (lambda: nn.LSTMCell(**SIZES), 4),
    "our_layers": (lambda: seqcells.LSTM(**DEEP), 16),
    "torch_layers": (lambda: nn.GRU(**DEEP), 12),
    "torch_rnn": (lambda: nn.RNN(**DEEP), 4),
    "recurrent": (lambda: seqcells.Recurrent(seqcells.RNNCell(**SIZES)), 1),
    "stack": (stack, 9),
    "model": (lambda: nn.Sequential(nn.Linear(3, 4), seqcells.GRU(**SIZES)), 3),
    "multiplicative": (lambda: seqcells.MultiplicativeLSTMCell(**SIZES), 5),
    "rhn": (lambda: seqcells.RHNCell(**SIZES, depth=4), 8),
    "lem": (lambda: seqcells.LEMCell(**SIZES), 4),
    "no_bias": (lambda: seqcells.GRU(**SIZES, bias=False), 3),
}
EVERY = pytest.mark.parametrize(("make", "count"), RECURRENT.values(), ids=RECURRENT)


def gates(module):
    """Return the recurrent matrix of every gate."""
    named = module.named_parameters()
    found = [value for name, value in named if "weight_hh" in name]
    return [gate for matrix in found for gate in matrix.split(H)]


def values(module):
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


@EVERY
@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_each_gate_is_orthogonal(make, count, gain):
    module = make()
    before = values(module)
    assert orthogonal_(module, gain) is module
    assert len(gates(module)) == count
    for gate in gates(module):
        close(gate @ gate.T, gain**2 * torch.eye(H, dtype=F64), 1e-10)
    for first, second in zip(gates(module), gates(module)[1:]):
        assert not torch.allclose(first, second)
    for name, value in before.items():
        assert ("weight_hh" in name) or torch.equal(module.get_parameter(name), value)
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_a_projected_gate_has_orthonormal_columns():
    cell = orthogonal_(make_cell("lstm_proj"))
    for gate in cell.weight_hh.split(H):
        close(gate.T @ gate, torch.eye(3, dtype=F64), 1e-10)


def test_recurrent_weights_that_are_vectors_stay_unchanged():
    module = nn.ModuleList([seqcells.IndRNNCell(**SIZES), seqcells.RNNCell(**SIZES)])
    before = values(module)
    orthogonal_(module)
    for name, value in before.items():
        assert torch.equal(module.get_parameter(name), value) == (name != "1.weight_hh")


@pytest.mark.parametrize(
    "function",
    [orthogonal_, lambda module: chrono_(module, LONGEST)],
    ids=["orthogonal", "chrono"],
)
def test_values_are_drawn_from_the_seed(function):
    drawn = []
    for seed, layers in ((1, seqcells.LSTM), (1, nn.LSTM), (2, nn.LSTM)):
        torch.manual_seed(0)
        module = layers(**SIZES)
        torch.manual_seed(seed)
        drawn.append(values(function(module)))
    first, again, other = drawn
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@EVERY
@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_each_gate_is_the_identity(make, count, gain):
    module = make()
    before = values(module)
    assert identity_(module, gain) is module
    assert len(gates(module)) == count
    for gate in gates(module):
        assert torch.equal(gate, gain * torch.eye(H, dtype=F64))
    for name, value in before.items():
        if "bias_" in name:
            assert not module.get_parameter(name).any()
        elif "weight_hh" not in name:
            assert torch.equal(module.get_parameter(name), value)


def test_a_projected_gate_is_a_part_of_the_identity():
    cell = identity_(make_cell("lstm_proj"))
    for gate in cell.weight_hh.split(H):
        assert torch.equal(gate, torch.eye(H, 3, dtype=F64))


@pytest.mark.parametrize(
    "cell", [seqcells.RNNCell(**SIZES, nonlinearity="relu"), seqcells.IndRNNCell(**SIZES)], ids=type
)
def test_the_identity_carries_the_state(cell):
    identity_(cell)
    with torch.no_grad():
        cell.weight_ih.zero_()
    state = random(3, H).abs()
    _, final = seqcells.Recurrent(cell)(random(50, 3, 4), state)
    assert torch.equal(final, state)


LSTMS = {
    "our_cell": lambda: seqcells.LSTMCell(**SIZES),
    "projected": lambda: seqcells.LSTMCell(**SIZES, proj_size=2),
    "torch_cell": lambda: nn.LSTMCell(**SIZES),
    "our_layers": lambda: seqcells.LSTM(**DEEP),
    "torch_layers": lambda: nn.LSTM(**DEEP),
    "recurrent": lambda: seqcells.Recurrent(seqcells.LSTMCell(**SIZES)),
    "mixed": lambda: seqcells.Stack([seqcells.LSTMCell(**SIZES), nn.GRUCell(5, 5, dtype=F64)]),
}


@pytest.mark.parametrize("value", [1.0, 0.0, -2.5])
@pytest.mark.parametrize("make", LSTMS.values(), ids=LSTMS)
def test_the_forget_gates_bias_sums_to_the_value(make, value):
    module = make()
    before = values(module)
    assert forget_bias_(module, value) is module
    seen = 0
    for name, parameter in module.named_parameters():
        if "bias" not in name or len(parameter) != 4 * H:
            assert torch.equal(parameter, before[name])
            continue
        input, forget, candidate, output = parameter.split(H)
        kept_gates = torch.cat([input, candidate, output])
        old = before[name].split(H)
        assert torch.equal(kept_gates, torch.cat([old[0], old[2], old[3]]))
        if "bias_ih" in name:
            other = module.get_parameter(name.replace("bias_ih", "bias_hh")).split(H)[1]
            assert torch.equal(forget + other, torch.full((H,), value, dtype=F64))
            seen += 1
    assert seen == (4 if "weight_ih_l1" in before else 1)


@pytest.mark.parametrize(
    "cell",
    [
        make_cell("lstm"),
        make_cell("lstm_proj"),
        make_cell("multiplicative_lstm"),
        Keeper(**SIZES),
        LateKeeper(**SIZES),
    ],
    ids=["lstm", "proj", "multiplicative", "own", "own_late"],
)
def test_a_large_forget_bias_opens_the_gate(cell):
    recurrent = seqcells.Recurrent(forget_bias_(cell, 30.0))
    assert seqcells.trace(recurrent, random(3, 2, 4)).gates["forget"].min() > 0.999


def test_the_default_forget_bias_is_one():
    cell = forget_bias_(Keeper(**SIZES))
    assert torch.equal((cell.bias_ih + cell.bias_hh)[H:], torch.ones(H, dtype=F64))


KEEPING = {
    "our_lstm": lambda: seqcells.LSTMCell(**SIZES),
    "projected": lambda: seqcells.LSTMCell(**SIZES, proj_size=2),
    "torch_lstm": lambda: nn.LSTMCell(**SIZES),
    "our_gru": lambda: seqcells.GRUCell(**SIZES),
    "published_gru": lambda: seqcells.GRUCell(**SIZES, reset_after=False),
    "torch_gru": lambda: nn.GRUCell(**SIZES),
    "layer_norm_lstm": lambda: seqcells.LayerNormLSTMCell(**SIZES),
    "layer_norm_gru": lambda: seqcells.LayerNormGRUCell(**SIZES),
    "peephole": lambda: seqcells.PeepholeLSTMCell(**SIZES),
    "coupled": lambda: seqcells.CoupledLSTMCell(**SIZES),
    "light": lambda: seqcells.LightLSTMCell(**SIZES),
    "min_gru": lambda: seqcells.MinGRUCell(**SIZES),
    "min_lstm": lambda: seqcells.MinLSTMCell(**SIZES),
    "multiplicative": lambda: seqcells.MultiplicativeLSTMCell(**SIZES),
    "ugrnn": lambda: seqcells.UGRNNCell(**SIZES),
    "own": lambda: Keeper(**SIZES),
    "own_late": lambda: LateKeeper(**SIZES),
}


@pytest.mark.parametrize("make", KEEPING.values(), ids=KEEPING)
def test_chrono_keeps_up_to_the_longest(make):
    """With all weights zero the candidate is zero, and a step keeps 1 - 1 / (u + 1)."""
    cell = make()
    for parameter in cell.parameters():
        nn.init.zeros_(parameter)
    assert chrono_(cell, LONGEST) is cell
    start = [torch.ones_like(part) for part in leaves(cell(random(1, 4)))]
    state = cell(random(1, 4), start[0] if len(start) == 1 else tuple(start))
    times = 1 / (1 - leaves(state)[-1])
    assert times.min() > 2
    assert times.max() < LONGEST
    assert times.unique().numel() == H


@pytest.mark.parametrize("layers", [seqcells.LSTM, nn.LSTM, seqcells.GRU, nn.GRU])
def test_chrono_fills_each_layer_and_direction(layers):
    module = layers(**DEEP)
    before = values(module)
    chrono_(module, LONGEST)
    drawn = []
    for name, old in before.items():
        new = module.get_parameter(name).split(H)
        changed = {n for n, (one, two) in enumerate(zip(new, old.split(H))) if not one.equal(two)}
        if "bias" not in name:
            assert not changed
            continue
        assert changed == ({0, 1} if len(new) == 4 else {1})
        assert "bias_ih" in name or not torch.cat([new[n] for n in changed]).any()
        if "bias_ih" in name:
            drawn.append(new[1])
            assert len(new) == 3 or torch.equal(new[0], -new[1])
    assert torch.cat(drawn).unique().numel() == 4 * H


def test_chrono_is_uniform_in_time():
    cells = [chrono_(seqcells.LSTMCell(1, 500, dtype=F64), LONGEST) for _ in range(20)]
    times = torch.cat([cell.bias_ih.chunk(4)[1] for cell in cells]).exp().sort().values
    expected = torch.linspace(1, LONGEST - 1, 10_000, dtype=F64)
    close(times / LONGEST, expected / LONGEST, 0.02)


def test_chrono_of_two_steps_opens_by_half():
    cell = chrono_(seqcells.GRUCell(**SIZES), 2)
    assert not cell.bias_ih.chunk(3)[1].any()


NO_BIAS = [seqcells.LSTM(3, 3, bias=False), nn.LSTMCell(3, 3, bias=False)]


@pytest.mark.parametrize(
    ("function", "module"),
    [
        (orthogonal_, nn.Linear(3, 3)),
        (orthogonal_, seqcells.IndRNNCell(3, 3)),
        (orthogonal_, seqcells.MinGRUCell(3, 3)),
        (identity_, nn.Linear(3, 3)),
        *((forget_bias_, module) for module in [nn.Linear(3, 3), seqcells.GRU(3, 3), *NO_BIAS]),
        *((chrono_, module) for module in [nn.Linear(3, 3), seqcells.RNN(3, 3), *NO_BIAS]),
        *((chrono_, kind(3, 3)) for kind in [seqcells.MGUCell, seqcells.RHNCell, seqcells.LEMCell]),
        *((forget_bias_, kind(3, 3)) for kind in [seqcells.RHNCell, seqcells.UGRNNCell]),
    ],
    ids=lambda part: getattr(part, "__name__", type(part).__name__),
)
def test_a_module_with_nothing_to_initialise_raises(function, module):
    options = {"longest": LONGEST} if function is chrono_ else {}
    with pytest.raises(ValueError, match=r"expected a module with .*got"):
        function(module, **options)


@pytest.mark.parametrize(
    ("longest", "error", "words"),
    [
        (1, ValueError, TOO_SHORT),
        (-3.0, ValueError, TOO_SHORT),
        (math.nan, ValueError, TOO_SHORT),
        (math.inf, ValueError, TOO_SHORT),
        ("100", TypeError, "expected a number of steps, got str"),
        (True, TypeError, "expected a number of steps, got bool"),
    ],
)
def test_a_bad_longest_raises(longest, error, words):
    with pytest.raises(error, match=words):
        chrono_(seqcells.LSTM(3, 3), longest)
