"""Initial values by request, on our modules and on torch's."""

import pytest
import torch
from core_helpers import F64, close, make_cell, random
from torch import nn

import seqcells
from seqcells.init import forget_bias_, orthogonal_

H = 5
SIZES = {"input_size": 4, "hidden_size": H, "dtype": F64}
DEEP = {**SIZES, "num_layers": 2, "bidirectional": True}

RECURRENT = {
    "our_cell": (lambda: seqcells.GRUCell(**SIZES), 3),
    "torch_cell": (lambda: nn.LSTMCell(**SIZES), 4),
    "our_layers": (lambda: seqcells.LSTM(**DEEP), 16),
    "torch_layers": (lambda: nn.GRU(**DEEP), 12),
    "torch_rnn": (lambda: nn.RNN(**DEEP), 4),
    "recurrent": (lambda: seqcells.Recurrent(seqcells.RNNCell(**SIZES)), 1),
    "model": (lambda: nn.Sequential(nn.Linear(3, 4), seqcells.GRU(**SIZES)), 3),
}


def gates(module):
    """Every gate's recurrent matrix."""
    named = module.named_parameters()
    found = [value for name, value in named if "weight_hh" in name]
    return [gate for matrix in found for gate in matrix.split(H)]


@pytest.mark.parametrize("gain", [1.0, 0.5])
@pytest.mark.parametrize(("make", "count"), RECURRENT.values(), ids=RECURRENT)
def test_each_gate_is_orthogonal(make, count, gain):
    module = make()
    others = {n: p.clone() for n, p in module.named_parameters() if "weight_hh" not in n}
    assert orthogonal_(module, gain) is module
    assert len(gates(module)) == count
    for gate in gates(module):
        close(gate @ gate.T, gain**2 * torch.eye(H, dtype=F64), 1e-10)
    for first, second in zip(gates(module), gates(module)[1:]):
        assert not torch.allclose(first, second)
    for name, value in others.items():
        assert torch.equal(module.get_parameter(name), value)
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_a_projected_gate_has_orthonormal_columns():
    cell = orthogonal_(make_cell("lstm_proj"))
    for gate in cell.weight_hh.split(H):
        close(gate.T @ gate, torch.eye(3, dtype=F64), 1e-10)


def test_orthogonal_weights_are_drawn_from_the_seed():
    torch.manual_seed(1)
    first = orthogonal_(seqcells.LSTM(**SIZES))
    torch.manual_seed(1)
    second = orthogonal_(nn.LSTM(**SIZES))
    assert torch.equal(first.weight_hh_l0, second.weight_hh_l0)


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
    before = {name: parameter.clone() for name, parameter in module.named_parameters()}
    assert forget_bias_(module, value) is module
    seen = 0
    for name, parameter in module.named_parameters():
        if "bias" not in name or len(parameter) != 4 * H:
            assert torch.equal(parameter, before[name])
            continue
        input, forget, candidate, output = parameter.split(H)
        kept = torch.cat([input, candidate, output])
        old = before[name].split(H)
        assert torch.equal(kept, torch.cat([old[0], old[2], old[3]]))
        if "bias_ih" in name:
            other = module.get_parameter(name.replace("bias_ih", "bias_hh")).split(H)[1]
            assert torch.equal(forget + other, torch.full((H,), value, dtype=F64))
            seen += 1
    assert seen == (4 if "weight_ih_l1" in before else 1)


def test_the_gate_opens():
    cell = seqcells.Recurrent(forget_bias_(make_cell("lstm"), 30.0))
    assert seqcells.trace(cell, random(3, 2, 4)).gates["forget"].min() > 0.999


@pytest.mark.parametrize(
    ("function", "module"),
    [
        (orthogonal_, nn.Linear(3, 3)),
        (forget_bias_, nn.Linear(3, 3)),
        (forget_bias_, seqcells.GRU(3, 3)),
        (forget_bias_, seqcells.LSTM(3, 3, bias=False)),
        (forget_bias_, nn.LSTMCell(3, 3, bias=False)),
    ],
    ids=["no_recurrence", "no_lstm", "gru", "no_bias", "torch_no_bias"],
)
def test_nothing_to_initialise_is_an_error(function, module):
    with pytest.raises(ValueError, match=r"expected a module with .*got"):
        function(module)
