"""Cells, which compute one time step: the protocol and the built-in families, one file each."""

from seqcells.cells.base import GatedCell, Weights
from seqcells.cells.cell import Cell
from seqcells.cells.coupled import CoupledLSTMCell
from seqcells.cells.gru import GRUCell
from seqcells.cells.highway import RHNCell
from seqcells.cells.indrnn import IndRNNCell
from seqcells.cells.layer_norm import LayerNormGRUCell, LayerNormLSTMCell
from seqcells.cells.lem import LEMCell, LEMState
from seqcells.cells.light import LightLSTMCell
from seqcells.cells.linear import LinearCell
from seqcells.cells.lstm import LSTMCell, LSTMState
from seqcells.cells.mgu import MGUCell
from seqcells.cells.minimal import MinGRUCell, MinLSTMCell
from seqcells.cells.multiplicative import MultiplicativeLSTMCell
from seqcells.cells.peephole import PeepholeLSTMCell
from seqcells.cells.rnn import RNNCell
from seqcells.cells.slstm import SLSTMCell, SLSTMState
from seqcells.cells.update_gate import UGRNNCell

__all__ = [
    "Cell",
    "CoupledLSTMCell",
    "GRUCell",
    "GatedCell",
    "IndRNNCell",
    "LEMCell",
    "LEMState",
    "LSTMCell",
    "LSTMState",
    "LayerNormGRUCell",
    "LayerNormLSTMCell",
    "LightLSTMCell",
    "LinearCell",
    "MGUCell",
    "MinGRUCell",
    "MinLSTMCell",
    "MultiplicativeLSTMCell",
    "PeepholeLSTMCell",
    "RHNCell",
    "RNNCell",
    "SLSTMCell",
    "SLSTMState",
    "UGRNNCell",
    "Weights",
]
