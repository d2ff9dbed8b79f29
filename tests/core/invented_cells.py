"""Cells that a user might write, and a recurrence written by hand, row by row."""

from typing import NamedTuple

import torch
from core_helpers import F64, leaves, random, row
from every_cell import EVERY, make
from torch import nn

import seqcells

I, H = 4, 5  # noqa: E741


class Leaky(nn.Module):
    """No initial state: None is its own business."""

    def __init__(self):
        super().__init__()
        self.inward = nn.Linear(I, H, dtype=F64)

    def forward(self, input, state=None):
        new = torch.tanh(self.inward(input))
        return new if state is None else 0.9 * state + 0.1 * new


class Learned(nn.Module):
    """A learnable initial state, taken where the state is None."""

    def __init__(self):
        super().__init__()
        self.inside = nn.GRUCell(I, H, dtype=F64)
        self.start = nn.Parameter(random(H))

    def forward(self, input, state=None):
        if state is None:
            state = self.start.expand(len(input), -1)
        return self.inside(input, state)


class Pair(NamedTuple):
    fast: torch.Tensor
    slow: tuple


class Nested(nn.Module):
    """A NamedTuple that holds an LSTM's pair; the output is one of its middle parts."""

    def __init__(self):
        super().__init__()
        self.inside = nn.LSTMCell(I, H, dtype=F64)

    def initial_state(self, batch_size, *, device=None, dtype=None):
        zeros = torch.zeros(batch_size, H, device=device, dtype=dtype)
        return Pair(zeros, (zeros, zeros))

    def forward(self, input, state=None):
        if state is None:
            state = self.initial_state(len(input), device=input.device, dtype=input.dtype)
        inner = self.inside(input, state.slow)
        return Pair(0.5 * state.fast + inner[0], inner)

    def output(self, state):
        return state.slow[0]


def function(input, state=None):
    """No module at all."""
    new = input.sin()
    return new if state is None else new + 0.5 * state


class Highway(seqcells.GatedCell):
    """The example of GatedCell's docstring."""

    gates = ("carry", "candidate")

    @staticmethod
    def activate(from_input, from_hidden, state):
        carry, candidate = (from_input + from_hidden).chunk(2, dim=-1)
        carry, candidate = carry.sigmoid(), candidate.tanh()
        return carry * state + (1 - carry) * candidate, (carry, candidate)


def learned_state(cell):
    cell = seqcells.LearnedState(cell)
    nn.init.normal_(cell.start)
    return cell


MAKE = {
    **{f"our_{kind}": lambda kind=kind: make(kind, I, H) for kind in EVERY},
    "zoneout": lambda: seqcells.Zoneout(make("lstm", I, H), (0.3, 0.6)).eval(),
    "zoneout_scan": lambda: seqcells.Zoneout(make("min_gru", I, H), 0.3).eval(),
    "zoneout_torch": lambda: seqcells.Zoneout(nn.LSTMCell(I, H, dtype=F64), 0.3).eval(),
    "learned_state": lambda: learned_state(make("gru", I, H)),
    "torch_rnn": lambda: nn.RNNCell(I, H, dtype=F64),
    "torch_gru": lambda: nn.GRUCell(I, H, dtype=F64),
    "torch_lstm": lambda: nn.LSTMCell(I, H, dtype=F64),
    "leaky": Leaky,
    "learned": Learned,
    "nested": Nested,
    "function": lambda: function,
    "highway": lambda: Highway(I, H, dtype=F64),
}


def form(state, parts):
    """These tensors in the form of this state."""
    parts = iter(parts)

    def fill(state):
        if isinstance(state, torch.Tensor):
            return next(parts)
        filled = [fill(part) for part in state]
        return type(state)(*filled) if hasattr(state, "_fields") else tuple(filled)

    return fill(state)


def some_state(cell, batch_size):
    """A state to carry in: random, in the form that the cell returns."""
    state = cell(random(batch_size, I))
    return form(state, [torch.randn_like(part) for part in leaves(state)])


def by_hand(cell, inputs, state=None, lengths=None, resets=None, reverse=False):
    """Each row on its own, step after step: the outputs, and the leaves of the final state."""
    steps, batch_size = inputs.shape[:2]
    probe = cell(inputs[0])
    pick = getattr(cell, "output", lambda state: leaves(state)[0])
    outputs, finals = torch.zeros(steps, batch_size, pick(probe).shape[1], dtype=F64), []
    for b in range(batch_size):
        end = steps if lengths is None else int(lengths[b])
        now = None if state is None else form(state, row(state, b))
        for t in reversed(range(end)) if reverse else range(end):
            fresh = now is None or (resets is not None and resets[t, b])
            now = cell(inputs[t, b : b + 1], None if fresh else now)
            outputs[t, b] = pick(now)[0]
        if now is None:
            start = getattr(cell, "initial_state", lambda *_, **options: None)(1, dtype=F64)
            now = [torch.zeros_like(part[:1]) for part in leaves(probe)] if start is None else start
        finals.append(leaves(now))
    return outputs, [torch.cat(parts) for parts in zip(*finals)]
