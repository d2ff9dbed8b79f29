"""Cells and modules that the ONNX tests export, and the first state of an exported model."""

import json

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import seqcells
from seqcells import DropConnect, LearnedState, RecurrentDropout, VariationalDropout, Zoneout
from seqcells.cells.table import VARIANTS

I, H = 4, 5  # noqa: E741


class Highway(seqcells.GatedCell):
    """The example of `GatedCell`'s docstring."""

    gates = ("carry", "candidate")

    @staticmethod
    def activate(from_input, from_hidden, state):
        carry, candidate = (from_input + from_hidden).chunk(2, dim=-1)
        carry, candidate = carry.sigmoid(), candidate.tanh()
        return carry * state + (1 - carry) * candidate, (carry, candidate)


class OneBias(Highway):
    """Only one of the two products has a bias."""

    missing = "bias_ih"

    def parameter_shapes(self):
        return super().parameter_shapes() | {self.missing: None}


class InputBias(OneBias):
    missing = "bias_hh"


class Reduced(seqcells.GatedCell):
    """A state of two tensors; reductions, constants, a parameter and an initial state."""

    gates = ("first", "second")
    scale = 0.7

    def parameter_shapes(self):
        return super().parameter_shapes() | {"gain": (2 * self.hidden_size,)}

    def initial_state(self, batch_size, *, device=None, dtype=None):
        zeros = super().initial_state(batch_size, device=device, dtype=dtype)
        return zeros + 0.25, zeros - 1.5

    def activate(self, from_input, from_hidden, state):
        hidden, slow = state
        first, second = (self.gain * (from_input - from_hidden)).chunk(2, dim=-1)
        first = F.layer_norm(first, first.shape[-1:]) + first.mean(-1, keepdim=True)
        second = F.softplus(second).clamp(0.1, 2.0) / (1.5 + slow * slow)
        new = self.scale * torch.tanh(first) + (1 - self.scale) * hidden.abs()
        return (new, torch.maximum(new, second)), (first, second)


class Collapsed(seqcells.GatedCell):
    """New state tensors that are equal for all rows."""

    gates = ("only",)

    def parameter_shapes(self):
        return super().parameter_shapes() | {"gain": (self.hidden_size,)}

    def initial_state(self, batch_size, *, device=None, dtype=None):
        zeros = super().initial_state(batch_size, device=device, dtype=dtype)
        return zeros, zeros

    def activate(self, from_input, from_hidden, state):
        hidden, other = state
        only = torch.sigmoid(from_input + from_hidden + other)
        return (only, 0 * hidden + self.gain.exp()), (only,)


class EightParts(seqcells.GatedCell):
    """A state of eight parts, which moves by one part per step, and has no zeros at the start."""

    gates = ("only",)

    def initial_state(self, batch_size, *, device=None, dtype=None):
        zeros = super().initial_state(batch_size, device=device, dtype=dtype)
        return tuple(zeros + (part + 1) / 4 for part in range(8))

    def activate(self, from_input, from_hidden, state):
        only = torch.tanh(from_input + from_hidden + state[7])
        return (only + 0.1 * state[0], *state[:7]), (only,)


class Staged(seqcells.GatedCell):
    """Two stages of late products, in another order than their gates.

    The second stage reads the result of the first. Means over the row are computed before a stage
    and read after it, and one mean is that of an operand. The last gate is multiplied.
    """

    gates = ("reset", "second", "first")
    late_gates = gates[1:]

    @staticmethod
    def activate(from_input, from_hidden, state, *, multiply):
        input_reset, input_second, input_first = from_input.chunk(3, dim=-1)
        reset = torch.sigmoid(input_reset + from_hidden)
        centre = reset.mean(-1, keepdim=True)
        operand = reset * state
        half = 0.5 * centre
        first = torch.tanh(input_first * multiply(operand, "first")) + half
        spread = operand.mean(-1, keepdim=True) + (first * first).mean(-1, keepdim=True)
        second = torch.tanh(input_second + multiply(first, "second"))
        hidden = reset * state + (1 - reset) * second + half * second * first - spread * state
        return hidden, (reset, second, first)


class SeveralAtOnce(seqcells.GatedCell):
    """Late products of the state and of a parameter, and a gate without an input product."""

    gates = ("early", "of_state", "of_gain")
    late_gates = gates[1:]
    input_gates = gates[:2]

    def parameter_shapes(self):
        return super().parameter_shapes() | {"gain": (self.hidden_size,)}

    def activate(self, from_input, from_hidden, state, *, multiply):
        early, late = from_input.chunk(2, dim=-1)
        early = torch.sigmoid(early + from_hidden)
        late = torch.tanh(late + multiply(state, "of_state"))
        gain = multiply(self.gain.exp() + 0 * state, "of_gain")
        return early * late + (1 - early) * state * torch.tanh(gain), (early, late, gain)


class EveryOperation(seqcells.GatedCell):
    """A cell whose program has every operation."""

    gates = ("first", "second", "third")
    late_gates = ("third",)

    @staticmethod
    def activate(from_input, from_hidden, state, *, multiply):
        late = multiply(state * state, "third")
        from_hidden = torch.cat((from_hidden, late), dim=-1)
        first, second, third = (from_input + from_hidden).chunk(3, dim=-1)
        scale = torch.rsqrt(first * first + 0.1) + torch.sqrt(second * second + 0.1)
        signs = F.leaky_relu(first, 0.2) - torch.relu(second) + third.abs()
        bounded = torch.exp(-F.softplus(first)) / (1.5 + second * second)
        centred = -third + third.mean(-1, keepdim=True)
        new = torch.tanh(signs * scale + centred) * torch.sigmoid(state) + bounded
        return new, (first, second, third)


def built_in(name):
    cell, options = VARIANTS[name]
    return lambda *sizes: cell(*sizes, **options)


CELLS = {name: built_in(name) for name in VARIANTS}
CELLS["lstm_proj"] = lambda *sizes: seqcells.LSTMCell(*sizes, proj_size=3)
CELLS["lstm_no_bias"] = lambda *sizes: seqcells.LSTMCell(*sizes, bias=False)
CELLS["layer_norm_no_bias"] = lambda *sizes: seqcells.LayerNormLSTMCell(*sizes, bias=False)
CELLS |= {
    "highway": Highway,
    "hidden_bias": OneBias,
    "input_bias": InputBias,
    "reduced": Reduced,
    "collapsed": Collapsed,
    "eight_parts": EightParts,
    "rhn_two_layers": lambda *sizes: seqcells.RHNCell(*sizes, depth=2),
    "rhn_no_bias": lambda *sizes: seqcells.RHNCell(*sizes, bias=False),
    "staged": Staged,
    "several_at_once": SeveralAtOnce,
}
CELLS["every_operation"] = EveryOperation

MODIFIED = {
    "zoneout_lstm": lambda: Zoneout(seqcells.LSTMCell(I, H), (0.2, 0.6)),
    "zoneout_gru": lambda: Zoneout(seqcells.GRUCell(I, H), 0.3),
    "zoneout_gru_reset_before": lambda: Zoneout(seqcells.GRUCell(I, H, reset_after=False), 0.3),
    "zoneout_mgu_reset_before": lambda: Zoneout(seqcells.MGUCell(I, H, reset_after=False), 0.3),
    "zoneout_mgu_no_bias": lambda: Zoneout(
        seqcells.MGUCell(I, H, bias=False, reset_after=False), 0.3
    ),
    "zoneout_projected": lambda: Zoneout(seqcells.LSTMCell(I, H, proj_size=3), (0.2, 0.6)),
    "variational": lambda: VariationalDropout(seqcells.PeepholeLSTMCell(I, H), 0.4),
    "recurrent": lambda: RecurrentDropout(seqcells.LightLSTMCell(I, H), 0.4),
    "drop_connect": lambda: DropConnect(seqcells.IndRNNCell(I, H), 0.4),
    "learned": lambda: LearnedState(seqcells.CoupledLSTMCell(I, H)),
    "zoneout_slstm": lambda: Zoneout(seqcells.SLSTMCell(I, H), (0.2, 0.6, 0.3, 0.0)),
    "learned_slstm": lambda: LearnedState(seqcells.SLSTMCell(I, H)),
    "heads": lambda: seqcells.GRUCell(I, 6, heads=3),
    "heads_slstm": lambda: seqcells.SLSTMCell(I, 6, heads=2),
    "zoneout_lem": lambda: Zoneout(seqcells.LEMCell(I, H), (0.2, 0.6)),
    "learned_multiplicative": lambda: LearnedState(seqcells.MultiplicativeLSTMCell(I, H)),
    "recurrent_rhn": lambda: RecurrentDropout(seqcells.RHNCell(I, H), 0.4),
    "zoneout_staged": lambda: Zoneout(Staged(I, H), 0.3),
    "heads_multiplicative": lambda: seqcells.MultiplicativeLSTMCell(I, 6, heads=3),
    "heads_reset_before": lambda: seqcells.GRUCell(I, 6, reset_after=False, heads=2),
    "composed": lambda: Zoneout(
        VariationalDropout(DropConnect(LearnedState(Highway(I, H)), 0.2), 0.2), 0.4
    ),
}

MODULES = {
    "rnn": lambda: seqcells.RNN(I, H, nonlinearity="relu"),
    "lstm_two_layers": lambda: seqcells.LSTM(I, H, 2),
    "lstm_projected": lambda: seqcells.LSTM(I, H, 3, proj_size=2, dropout=0.5),
    "lstm_projected_no_bias": lambda: seqcells.LSTM(I, H, 2, proj_size=2, bias=False),
    "gru_batch_first": lambda: seqcells.GRU(I, H, 2, batch_first=True),
    "torch_lstm": lambda: nn.LSTM(I, H, 2, batch_first=True),
    "torch_gru": lambda: nn.GRU(I, H),
    "recurrent": lambda: seqcells.Recurrent(seqcells.LightLSTMCell(I, H), batch_first=True),
    "stack": lambda: seqcells.Stack(
        [Zoneout(seqcells.LSTMCell(I, H), 0.2), seqcells.GRUCell(H, 3)], dropout=0.5
    ),
    "stack_of_one": lambda: seqcells.Stack([seqcells.MinGRUCell(I, H)]),
    "stack_slstm": lambda: seqcells.Stack(
        [seqcells.SLSTMCell(I, 6, heads=2), seqcells.LSTMCell(6, H), seqcells.SLSTMCell(H, H)]
    ),
    "stack_residual": lambda: seqcells.Stack(
        [
            seqcells.GRUCell(I, I),
            LearnedState(seqcells.LSTMCell(I, I)),
            seqcells.LightLSTMCell(I, H),
            Highway(H, H),
        ],
        residual=True,
        batch_first=True,
    ),
}

DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


def first_state(session, batch_size):
    """Return the state before a sequence, as the documentation describes it."""
    metadata = session.get_modelmeta().custom_metadata_map
    initial, state = json.loads(metadata.get("initial_state", "{}")), {}
    for tensor in session.get_inputs()[1:]:
        shape = [batch_size if size == "batch" else size for size in tensor.shape]
        start = np.array(initial.get(tensor.name, 0), DTYPES[tensor.type])
        state[tensor.name] = np.broadcast_to(start, shape).copy()
    return state
