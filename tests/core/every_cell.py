"""Every cell of ours: a new one joins all that is tested of each by a line here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy_cells as published
import torch

import seqcells


@dataclass(frozen=True)
class Kind:
    """A class, its options, its equations in NumPy, and how many parameters it has.

    The count is that of the class's docstring, unless an option changes it.
    """

    cell: type[seqcells.GatedCell]
    equations: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict)
    count: str | None = None


RELU, TANH = {"nonlinearity": "relu"}, {"nonlinearity": "tanh"}
RESET_BEFORE = {"reset_after": False}

EVERY = {
    "rnn_tanh": Kind(seqcells.RNNCell, published.rnn),
    "rnn_relu": Kind(seqcells.RNNCell, published.rnn_relu, RELU),
    "gru": Kind(seqcells.GRUCell, published.gru),
    "gru_reset_before": Kind(seqcells.GRUCell, published.gru_reset_before, RESET_BEFORE),
    "lstm": Kind(seqcells.LSTMCell, published.lstm),
    "lstm_proj": Kind(seqcells.LSTMCell, published.lstm, {"proj_size": 3}, "4*H*(I + 3 + 2) + 3*H"),
    "layer_norm_lstm": Kind(seqcells.LayerNormLSTMCell, published.layer_norm_lstm),
    "layer_norm_gru": Kind(seqcells.LayerNormGRUCell, published.layer_norm_gru),
    "peephole_lstm": Kind(seqcells.PeepholeLSTMCell, published.peephole_lstm),
    "coupled_lstm": Kind(seqcells.CoupledLSTMCell, published.coupled_lstm),
    "light_lstm": Kind(seqcells.LightLSTMCell, published.light_lstm),
    "mgu": Kind(seqcells.MGUCell, published.mgu),
    "mgu_reset_before": Kind(seqcells.MGUCell, published.mgu_reset_before, RESET_BEFORE),
    "indrnn": Kind(seqcells.IndRNNCell, published.indrnn),
    "indrnn_tanh": Kind(seqcells.IndRNNCell, published.indrnn_tanh, TANH),
    "min_gru": Kind(seqcells.MinGRUCell, published.min_gru),
    "min_lstm": Kind(seqcells.MinLSTMCell, published.min_lstm),
}


def make(kind: str, inputs: int = 4, hidden: int = 5, **options: Any) -> seqcells.GatedCell:
    own = {"dtype": torch.float64, **EVERY[kind].options}
    return EVERY[kind].cell(inputs, hidden, **own | options)


@torch.no_grad()
def make_random(kind: str, *sizes: int, **options: Any) -> seqcells.GatedCell:
    """With no parameter at a value, as a gain of one, behind which an error hides."""
    cell = make(kind, *sizes, **options)
    for parameter in cell.parameters():
        parameter.uniform_(-1, 1)
    return cell
