"""Registry of the built-in cells, for kernels, the application and tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from seqcells.cells.base import GatedCell
from seqcells.cells.coupled import CoupledLSTMCell
from seqcells.cells.gru import GRUCell
from seqcells.cells.highway import RHNCell
from seqcells.cells.indrnn import IndRNNCell
from seqcells.cells.layer_norm import LayerNormGRUCell, LayerNormLSTMCell
from seqcells.cells.lem import LEMCell
from seqcells.cells.light import LightLSTMCell
from seqcells.cells.lstm import LSTMCell
from seqcells.cells.mgu import MGUCell
from seqcells.cells.minimal import MinGRUCell, MinLSTMCell
from seqcells.cells.multiplicative import MultiplicativeLSTMCell
from seqcells.cells.peephole import PeepholeLSTMCell
from seqcells.cells.rnn import RNNCell
from seqcells.cells.slstm import SLSTMCell
from seqcells.cells.update_gate import UGRNNCell


class Entry(NamedTuple):
    """A cell class, and the options of each variant with its own kernel."""

    cell: type[GatedCell]
    variants: Sequence[dict[str, Any]] = ({},)


CELLS = {
    "rnn": Entry(RNNCell, [{}, {"nonlinearity": "relu"}]),
    "gru": Entry(GRUCell, [{}, {"reset_after": False}]),
    "lstm": Entry(LSTMCell),
    "layer_norm_lstm": Entry(LayerNormLSTMCell),
    "layer_norm_gru": Entry(LayerNormGRUCell),
    "peephole_lstm": Entry(PeepholeLSTMCell),
    "coupled_lstm": Entry(CoupledLSTMCell),
    "light_lstm": Entry(LightLSTMCell),
    "mgu": Entry(MGUCell, [{}, {"reset_after": False}]),
    "indrnn": Entry(IndRNNCell, [{}, {"nonlinearity": "tanh"}]),
    "min_gru": Entry(MinGRUCell),
    "min_lstm": Entry(MinLSTMCell),
    "slstm": Entry(SLSTMCell),
    "multiplicative_lstm": Entry(MultiplicativeLSTMCell),
    "rhn": Entry(RHNCell),
    "lem": Entry(LEMCell),
    "ugrnn": Entry(UGRNNCell),
}

_CELLS_ON_META = [
    (entry.cell, options, entry.cell(1, 1, device="meta", **options))
    for entry in CELLS.values()
    for options in entry.variants
]

# Kernel name -> class and options of its cell.
VARIANTS = {str(cell.kernel): (kind, options) for kind, options, cell in _CELLS_ON_META}

# Kernel name -> a cell on the meta device, whose equations are independent of the sizes.
EQUATIONS = {str(cell.kernel): cell for _, _, cell in _CELLS_ON_META}
