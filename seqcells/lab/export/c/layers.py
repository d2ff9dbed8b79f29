"""The layers of a module as C needs them: sizes, a program, and weights in the order of reading.

A layer's sums have a block of H rows per slot (`equations.slots.Slots`). Each product adds to a
contiguous range of these rows: that with the input, that with the hidden state, and one per stage
of late products.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from seqcells.cells.table import EQUATIONS
from seqcells.equations.program import MOST_PARTS, Program, Writer
from seqcells.equations.slots import Slots, slots_of
from seqcells.kernels.call import Call
from seqcells.lab.export.c.products import Product, matrix_product
from seqcells.layers import _Layers
from seqcells.modifiers.base import innermost
from seqcells.recurrent import Recurrent
from seqcells.stack import Stack

# The names of the parts of a state: `hidden`, `cell`, `state2` and so on.
STATES = ("hidden", "cell", *(f"state{part}" for part in range(2, MOST_PARTS)))


@dataclass
class Layer:
    """One layer.

    Attributes:
        name: prefix of the layer's names in C.
        title: the cell's class.
        gates: names of the gates, which are C identifiers.
        residual: whether the layer's input is added to its output.
        arrays: the weights by their names in C, flat, in float32.
        products: by their names: `input`, `recurrent`, `stage1`, `stage2`, ..., `projection`.
        starts: the initial state; None for zeros.
    """

    name: str
    title: str
    gates: tuple[str, ...]
    inputs: int
    units: int
    width: int
    program: Program
    slots: Slots
    residual: bool
    arrays: dict[str, Tensor] = field(default_factory=dict)
    products: dict[str, Product] = field(default_factory=dict)
    starts: list[Tensor] | None = None

    @property
    def widths(self) -> tuple[int, ...]:
        """The size of each part of the state, the hidden state first."""
        return (self.width, *[self.units] * (self.program.states - 1))

    def add_product(self, key: str, start: int, matrix: Tensor, block: int, heads: int = 1) -> None:
        """Add a product with a matrix."""
        name = f"{self.name}_{key}"
        self.products[key] = matrix_product(name, start, matrix, self.arrays, block, heads)


def layers_of(module: nn.Module, calls: Sequence[Call], residual: bool, block: int) -> list[Layer]:
    """Return the layers of a module from its single steps (`streams.single_steps`)."""
    cells = _cells(module, len(calls))
    return [
        _layer(f"layer{n}", cell, call, residual, block)
        for n, (cell, call) in enumerate(zip(cells, calls))
    ]


def _cells(module: Any, count: int) -> list[Any]:
    """Return the cell of each layer, without modifiers."""
    if isinstance(module, _Layers):
        return [EQUATIONS[module.mode.lower()]] * count
    parts = list(module.layers) if isinstance(module, Stack) else [module]
    cells = [part.cell if isinstance(part, Recurrent) else part for part in parts]
    return [innermost(cell) for cell in cells]


def _layer(name: str, cell: Any, call: Call, residual: bool, block: int) -> Layer:
    if call.read is not None or call.drop is not None:
        raise ValueError(
            "module: expected no factors of noise in evaluation mode, got some around "
            f"{type(cell).__name__}; remove the modifier"
        )
    program = _without_drop(call.kernel.program)
    width, units = call.state[0].shape[1], call.state[-1].shape[1]
    inputs = call.inputs.shape[-1]
    layer = Layer(
        name=name,
        title=type(cell).__name__,
        gates=_identifiers(cell.gates, program.gates),
        inputs=inputs,
        units=units,
        width=width,
        program=program,
        slots=slots_of(program),
        residual=residual and inputs == width,
    )
    _add_weights(layer, call, block)
    return layer


def _identifiers(gates: Sequence[str], count: int) -> tuple[str, ...]:
    """Return the names of the gates if they are distinct C identifiers, else numbered names."""
    valid = all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", gate) for gate in gates)
    if valid and len(set(gates)) == len(gates) == count:
        return tuple(gates)
    return tuple(f"gate{n}" for n in range(count))


def _without_drop(program: Program) -> Program:
    """Return the program without the factor of the noise, which is 1 in evaluation mode."""
    write, names = Writer(), {"d0": "1.0"}
    for n, (operation, *operands) in enumerate(program.values):
        names[f"v{n}"] = write(operation, *(names.get(name, name) for name in operands))
    results = [names.get(name, name) for name in program.results]
    return write.program(*program[:5], results)


def _add_weights(layer: Layer, call: Call, block: int) -> None:
    """Add biases, products, parameters, zoneout shares and the initial state."""
    slots, H = layer.slots, layer.units

    def rows(weight: Tensor, gates: Sequence[int]) -> Tensor:
        parts = weight.split(H)
        return torch.cat([parts[gate] for gate in gates])

    bias = torch.zeros(slots.total * H, dtype=torch.float64)
    if call.bias_ih is not None:
        bias[: len(slots.inputs) * H] += rows(call.bias_ih, slots.inputs)
    if call.bias_hh is not None:
        bias[(slots.total - len(slots.hidden)) * H :] += rows(call.bias_hh, slots.hidden)
    layer.arrays[f"{layer.name}_bias"] = bias
    layer.add_product("input", 0, rows(call.weight_ih, slots.inputs), block)
    for stage, ((first, count), gates) in enumerate(zip(slots.ranges(), slots.stages)):
        if call.weight_hh is not None and count:
            key = f"stage{stage}" if stage else "recurrent"
            layer.add_product(key, first * H, rows(call.weight_hh, gates), block, call.heads)
    if call.weight_hr is not None:
        layer.add_product("projection", 0, call.weight_hr, block)
    if call.parameters is not None:
        layer.arrays[f"{layer.name}_parameters"] = call.parameters.flatten()
    for part, share in zip(STATES, call.zone):
        layer.arrays[f"{layer.name}_{part}_share"] = share[0]
    starts = [part[0] for part in call.state]
    if any(part.any() for part in starts):
        layer.starts = starts
        for part, start in zip(STATES, starts):
            layer.arrays[f"{layer.name}_{part}_start"] = start
    layer.arrays = {
        name: array.float().flatten() if array.dtype is torch.float64 else array.flatten()
        for name, array in layer.arrays.items()
    }
