"""The cells and layers that the tests share: built-in, modified, and written by a user."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import truth
from parity import F64, form, leaves, random
from torch import nn

import seqcells
from seqcells import (
    DropConnect,
    LearnedState,
    RecurrentDropout,
    VariationalDropout,
    Zoneout,
)
from seqcells.cells.table import VARIANTS
from seqcells.equations.protocol import activate_takes

I, H = 4, 5  # noqa: E741


# Built-in cells. A row in `seqcells.cells.table.CELLS` adds a cell to every test that uses `CELLS`.


@dataclass(frozen=True)
class Kind:
    """A class, its options, its equations in NumPy, and its number of parameters.

    The number is that of the class's docstring unless an option changes it.
    """

    cell: type[seqcells.GatedCell]
    equations: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict)
    count: str | None = None


CELLS = {
    name: Kind(cell, getattr(truth, name), options) for name, (cell, options) in VARIANTS.items()
}
CELLS["lstm_proj"] = Kind(seqcells.LSTMCell, truth.lstm, {"proj_size": 3}, "4*H*(I + 3 + 2) + 3*H")

# The cells that torch has as well, with its class.
TORCH_CELLS = {
    "rnn_tanh": nn.RNNCell,
    "rnn_relu": nn.RNNCell,
    "gru": nn.GRUCell,
    "lstm": nn.LSTMCell,
}

# The cells with equations of the RNN, the GRU and the LSTM.
CLASSIC = [*TORCH_CELLS, "gru_reset_before", "lstm_proj"]


def make_cell(kind: str, inputs: int = I, hidden: int = H, **options: Any) -> seqcells.GatedCell:
    return CELLS[kind].cell(inputs, hidden, **{"dtype": F64, **CELLS[kind].options, **options})


@torch.no_grad()
def make_random(kind: str, *sizes: int, **options: Any) -> seqcells.GatedCell:
    """Draw every parameter: a gain of one, for example, would hide an error."""
    cell = make_cell(kind, *sizes, **options)
    for parameter in cell.parameters():
        parameter.uniform_(-1, 1)
    return cell


# Layers: our class, torch's class, and their options.

LAYERS = {
    "rnn_tanh": (seqcells.RNN, nn.RNN, {}),
    "rnn_relu": (seqcells.RNN, nn.RNN, {"nonlinearity": "relu"}),
    "gru": (seqcells.GRU, nn.GRU, {}),
    "lstm": (seqcells.LSTM, nn.LSTM, {}),
    "lstm_proj": (seqcells.LSTM, nn.LSTM, {"proj_size": 3}),
}


def make_layers(kind: str, inputs: int = I, hidden: int = H, **options: Any):
    """Return our layer and torch's, each with weights of its own."""
    ours, theirs, more = LAYERS[kind]
    options = {"dtype": F64, **more, **options}
    return ours(inputs, hidden, **options), theirs(inputs, hidden, **options)


# Modified cells.


def learned(cell: Any) -> LearnedState:
    """Learn the initial state, and start from one that differs from the cell's own."""
    modified = LearnedState(cell)
    for name, parameter in modified.named_parameters(recurse=False):
        assert name.startswith("start")
        nn.init.uniform_(parameter, -1, 1)
    return modified


MODIFY = {
    "zoneout": lambda cell: Zoneout(cell, 0.4),
    "variational": lambda cell: VariationalDropout(cell, 0.4),
    "recurrent": lambda cell: RecurrentDropout(cell, 0.4),
    "drop_connect": lambda cell: DropConnect(cell, 0.4),
    "learned": learned,
    "composed": lambda cell: Zoneout(VariationalDropout(DropConnect(learned(cell), 0.2), 0.2), 0.4),
}


def fits(modifier: str, kind: str) -> bool:
    """Whether the cell has what the modifier changes."""
    if modifier in ("variational", "drop_connect", "composed"):
        return not kind.startswith("min_")
    return modifier != "recurrent" or activate_takes(make_cell(kind), 4)


MODIFIED = [(modifier, kind) for modifier in MODIFY for kind in CELLS if fits(modifier, kind)]
MISFITS = [(modifier, kind) for modifier in MODIFY for kind in CELLS if not fits(modifier, kind)]


def make_modified(modifier: str, kind: str) -> seqcells.modifiers.Modifier:
    return MODIFY[modifier](make_random(kind))


# Cells that a user might write.


class Leaky(nn.Module):
    """Without `initial_state`: the cell itself handles None."""

    def __init__(self):
        super().__init__()
        self.inward = nn.Linear(I, H, dtype=F64)

    def forward(self, input, state=None):
        new = torch.tanh(self.inward(input))
        return new if state is None else 0.9 * state + 0.1 * new


class Learned(nn.Module):
    """A learnable initial state, used where the state is None."""

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
    """A NamedTuple that holds an LSTM's pair; the output is one of the pair."""

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
    """A cell that is a plain function."""
    new = input.sin()
    return new if state is None else new + 0.5 * state


class Highway(seqcells.GatedCell):
    """The example of `GatedCell`'s docstring."""

    gates = ("carry", "candidate")

    @staticmethod
    def activate(from_input, from_hidden, state):
        carry, candidate = (from_input + from_hidden).chunk(2, dim=-1)
        carry, candidate = carry.sigmoid(), candidate.tanh()
        return carry * state + (1 - carry) * candidate, (carry, candidate)


# Every cell that a `Recurrent` takes.
ANY_CELL = {
    **{f"our_{kind}": lambda kind=kind: make_cell(kind) for kind in CELLS},
    "zoneout": lambda: Zoneout(make_cell("lstm"), (0.3, 0.6)).eval(),
    "zoneout_scan": lambda: Zoneout(make_cell("min_gru"), 0.3).eval(),
    "zoneout_torch": lambda: Zoneout(nn.LSTMCell(I, H, dtype=F64), 0.3).eval(),
    "learned_state": lambda: learned(make_cell("gru")),
    "torch_rnn": lambda: nn.RNNCell(I, H, dtype=F64),
    "torch_gru": lambda: nn.GRUCell(I, H, dtype=F64),
    "torch_lstm": lambda: nn.LSTMCell(I, H, dtype=F64),
    "leaky": Leaky,
    "learned": Learned,
    "nested": Nested,
    "function": lambda: function,
    "highway": lambda: Highway(I, H, dtype=F64),
}


def some_state(cell: Any, batch_size: int) -> Any:
    """Return a random state in the structure that the cell returns."""
    state = cell(random(batch_size, I))
    return form(state, [torch.randn_like(part) for part in leaves(state)])
