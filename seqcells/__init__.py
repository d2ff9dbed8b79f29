"""Recurrent networks for PyTorch, as open as a loop."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from seqcells import init
from seqcells.cells import (
    Cell,
    CoupledLSTMCell,
    GatedCell,
    GRUCell,
    IndRNNCell,
    LayerNormGRUCell,
    LayerNormLSTMCell,
    LightLSTMCell,
    LinearCell,
    LSTMCell,
    LSTMState,
    MGUCell,
    MinGRUCell,
    MinLSTMCell,
    PeepholeLSTMCell,
    RNNCell,
)
from seqcells.inspect.flow import gradient_flow
from seqcells.inspect.trace import Trace, trace
from seqcells.layers import GRU, LSTM, RNN
from seqcells.modifiers import (
    DropConnect,
    LearnedState,
    RecurrentDropout,
    VariationalDropout,
    Zoneout,
)
from seqcells.moved import redirect_old_names
from seqcells.noise import Noise
from seqcells.recurrence.choice import backend, backends
from seqcells.recurrent import Recurrent
from seqcells.stack import Stack
from seqcells.state import detach_state

if TYPE_CHECKING:
    from seqcells.lab.prediction import Classifier

__version__ = "0.1.0"

redirect_old_names()


def load(run: str | Path) -> Classifier:
    """The classifier that the folder of a training run holds: see `seqcells.lab.prediction`.

    Raises:
        ImportError: what trains and predicts is not installed.
        ValueError: no run of a classifier, or one with missing or damaged files.
    """
    try:
        prediction = import_module("seqcells.lab.prediction")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"expected what runs are trained with ({error}): pip install 'seqcells[train]'"
        ) from error
    return prediction.load(run)


__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Cell",
    "CoupledLSTMCell",
    "DropConnect",
    "GRUCell",
    "GatedCell",
    "IndRNNCell",
    "LSTMCell",
    "LSTMState",
    "LayerNormGRUCell",
    "LayerNormLSTMCell",
    "LearnedState",
    "LightLSTMCell",
    "LinearCell",
    "MGUCell",
    "MinGRUCell",
    "MinLSTMCell",
    "Noise",
    "PeepholeLSTMCell",
    "RNNCell",
    "Recurrent",
    "RecurrentDropout",
    "Stack",
    "Trace",
    "VariationalDropout",
    "Zoneout",
    "backend",
    "backends",
    "detach_state",
    "gradient_flow",
    "init",
    "load",
    "trace",
]
