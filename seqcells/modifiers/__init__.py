"""Modifiers: regularisation and learned initial states for any cell, composable in any order.

A modified cell runs in `Recurrent` and `Stack` like the plain cell, with lengths, resets and in
both directions. Random tensors are drawn before a sequence runs (`Noise`), in training mode only:
`torch.manual_seed` makes them reproducible, and evaluation is deterministic. A share of zero is
equivalent to the plain cell. A call of the cell itself draws noise for a sequence of one step.
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
