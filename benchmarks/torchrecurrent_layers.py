"""Layers of torchrecurrent with the weights of our cells."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from seqcells import GatedCell

try:
    import torchrecurrent
except ImportError:
    torchrecurrent = None

HOW_TO_INSTALL = "torchrecurrent is not installed: `pip install torchrecurrent`."
RENAMED = {"weight_peephole": "weight_ph"}


@dataclass(frozen=True)
class Theirs:
    """A layer of torchrecurrent with the equations of one of our cells.

    Attributes:
        name: its class.
        options: further arguments of the class.
        order: indices of our gates in the order of its rows; empty if the order is ours.
        late: suffix of its parameters of the late products, if these are separate.
        note: difference of its equations, with which results differ.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    order: tuple[int, ...] = ()
    late: str = ""
    note: str = ""

    @torch.no_grad()
    def layer(self, cell: GatedCell) -> nn.Module | None:
        """Return the layer with the weights of our cell; None without torchrecurrent."""
        if torchrecurrent is None:
            return None
        layer: nn.Module = getattr(torchrecurrent, self.name)(
            cell.input_size, cell.hidden_size, dtype=cell.weight_ih.dtype, **self.options
        )
        for name, value in self.parameters(cell).items():
            getattr(layer.cells[0], name).copy_(value)
        return layer

    def parameters(self, cell: GatedCell) -> dict[str, Tensor]:
        """Return the parameters of our cell by torchrecurrent's names."""
        found, gates = {}, len(cell.gates)
        early = (gates - len(cell.late_gates)) * cell.hidden_size
        for name, value in cell.named_parameters():
            if self.order:
                blocks = value.chunk(gates)
                value = torch.cat([blocks[gate] for gate in self.order])
            if self.late and name.endswith("hh"):
                found[name.replace("hh", self.late)] = value[early:]
                value = value[:early]
            vector = name == "weight_hh" and value.dim() == 1
            found["vector_u" if vector else RENAMED.get(name, name)] = value
        return found


MULTIPLICATIVE = Theirs("MultiplicativeLSTM", late="mh")
