"""Every cell of ours: a row in the cells' table joins it to all tests that all cells have."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy_cells as published
import torch

import seqcells
from seqcells.cells.table import VARIANTS


@dataclass(frozen=True)
class Kind:
    """A class, its options, its equations in NumPy, and how many parameters it has.

    The count is that of the class's docstring, unless an option changes it.
    """

    cell: type[seqcells.GatedCell]
    equations: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict)
    count: str | None = None


EVERY = {
    name: Kind(cell, getattr(published, name), options)
    for name, (cell, options) in VARIANTS.items()
}
PROJECTED = {"proj_size": 3}
EVERY["lstm_proj"] = Kind(seqcells.LSTMCell, published.lstm, PROJECTED, "4*H*(I + 3 + 2) + 3*H")


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
