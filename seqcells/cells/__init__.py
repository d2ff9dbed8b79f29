"""One step in time: the protocol and the cells that keep it, one file a cell."""

from seqcells.cells.base import Cell, GatedCell, Weights
from seqcells.cells.gru import GRUCell
from seqcells.cells.lstm import LSTMCell, LSTMState
from seqcells.cells.rnn import RNNCell

__all__ = ["Cell", "GRUCell", "GatedCell", "LSTMCell", "LSTMState", "RNNCell", "Weights"]
