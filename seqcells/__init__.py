"""Recurrent networks for PyTorch, as open as a loop."""

from seqcells import init
from seqcells.backends import backend, backends
from seqcells.cells import Cell, GatedCell, GRUCell, LSTMCell, LSTMState, RNNCell
from seqcells.layers import GRU, LSTM, RNN
from seqcells.recurrent import Recurrent
from seqcells.stack import Stack
from seqcells.state import detach_state
from seqcells.trace import Trace, trace

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Cell",
    "GRUCell",
    "GatedCell",
    "LSTMCell",
    "LSTMState",
    "RNNCell",
    "Recurrent",
    "Stack",
    "Trace",
    "backend",
    "backends",
    "detach_state",
    "init",
    "trace",
]
