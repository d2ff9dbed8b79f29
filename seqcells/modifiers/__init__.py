"""Modifiers: regularisation and learned starts around any cell. They compose, in any order.

A modified cell runs as its plain cell does, in `Recurrent` and `Stack`, with lengths, resets and
in both directions. What is random is drawn before a sequence runs (`Noise`), in training alone:
`torch.manual_seed` reproduces it, and evaluation is deterministic. A share of zero is the plain
cell. A cell that is called by itself is a sequence of one step.
"""

from seqcells.modifiers.base import Modifier
from seqcells.modifiers.dropout import DropConnect, RecurrentDropout, VariationalDropout
from seqcells.modifiers.learned_state import LearnedState
from seqcells.modifiers.zoneout import Zoneout

__all__ = [
    "DropConnect",
    "LearnedState",
    "Modifier",
    "RecurrentDropout",
    "VariationalDropout",
    "Zoneout",
]
