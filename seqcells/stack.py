"""`Stack`: layers of any cells, bidirectional, with dropout and residual connections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqcells.cells.checks import check_share
from seqcells.noise import Noise
from seqcells.recurrent import Recurrent, check_sequence
from seqcells.sequences import restore_layout, time_first, zero_padding
from seqcells.state import State


class Stack(nn.Module):
    """Layers of any cells, of any sizes.

    Each entry of `cells` is one layer: a cell, or a pair `(forward, backward)` of cells that run
    in the two directions and whose outputs are concatenated::

        Stack([(GRUCell(8, 16), GRUCell(8, 16)), LSTMCell(32, 20), torch.nn.RNNCell(20, 20)])

    `stack.layers[n]` is a `Recurrent` or a pair of them. A cell that occurs twice shares its
    weights.

    Args:
        cells: at least one layer.
        batch_first: inputs, outputs and resets are `(B, T, ...)` instead of `(T, B, ...)`.
        dropout: dropout probability of each layer's outputs except the last layer's.
        residual: add a layer's input to its output if their shapes are equal.

    Raises:
        TypeError: an entry that is neither a cell nor a pair of cells.
        ValueError: no cells, or dropout outside [0, 1].
    """

    def __init__(
        self,
        cells: Sequence[Callable[..., State] | tuple[Callable[..., State], Callable[..., State]]],
        *,
        batch_first: bool = False,
        dropout: float = 0.0,
        residual: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(cells, (list, tuple, nn.ModuleList)):
            raise TypeError(f"cells: expected a list of cells, got {type(cells).__name__}")
        if not len(cells):
            raise ValueError("cells: expected at least one layer, got none")
        check_share(dropout, "dropout")
        self.layers = nn.ModuleList([_layer(entry, batch_first) for entry in cells])
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.residual = residual

    def forward(
        self,
        inputs: Tensor,
        initial_state: Sequence[State] | None = None,
        lengths: Tensor | Sequence[int] | None = None,
        resets: Tensor | None = None,
        noise: Sequence[Any] | None = None,
    ) -> tuple[Tensor, tuple[State, ...]]:
        """Run all layers. Arguments not listed here are those of `Recurrent`.

        Args:
            initial_state: one state per layer, a pair of states for a bidirectional layer. None in
                place of any of them stands for the cell's initial state.
            noise: one noise per layer or direction, as returned by `noise`. None in place of any of
                them lets the cell's modifiers draw it.

        Returns:
            outputs: those of the last layer, in the layout of the inputs.
            final_state: a tuple with the structure of `initial_state`.

        Raises:
            TypeError: a state, lengths, resets or noise of the wrong type.
            ValueError: a wrong shape, size, dtype, length or number of states.
        """
        if self.residual:  # padding must not enter the outputs
            check_sequence(directions(self.layers[0])[0].cell, inputs, self.batch_first)
            clean, lengths, _ = time_first(inputs, lengths, None, self.batch_first)
            if lengths is not None:
                inputs = restore_layout(zero_padding(clean, lengths), True, self.batch_first)
        states = _parts(initial_state, len(self.layers), "initial_state: one state per layer")
        noises = _parts(noise, len(self.layers), "noise: one per layer")
        final_states = []
        for number, (layer, state, layer_noise) in enumerate(zip(self.layers, states, noises)):
            if isinstance(layer, Recurrent):
                outputs, final_state = layer(inputs, state, lengths, resets, layer_noise)
            else:
                pair = _parts(state, 2, f"initial_state[{number}]: one state per direction")
                noise_pair = _parts(layer_noise, 2, f"noise[{number}]: one per direction")
                results = [
                    recurrent(inputs, start, lengths, resets, each_noise)
                    for recurrent, start, each_noise in zip(directions(layer), pair, noise_pair)
                ]
                outputs = torch.cat([output for output, _ in results], dim=-1)
                final_state = tuple(final for _, final in results)
            if self.residual and outputs.shape == inputs.shape:
                outputs = outputs + inputs
            if self.dropout and number < len(self.layers) - 1:
                outputs = F.dropout(outputs, self.dropout, self.training)
            final_states.append(final_state)
            inputs = outputs
        return outputs, tuple(final_states)

    def noise(
        self,
        inputs: Tensor,
        initial_state: Sequence[State] | None = None,
        before: Sequence[Any] | None = None,
    ) -> tuple[Noise | tuple[Noise, Noise], ...]:
        """Draw the noise of each layer: `Recurrent.noise`, a pair for a bidirectional layer."""
        states = _parts(initial_state, len(self.layers), "initial_state: one state per layer")
        previous = _parts(before, len(self.layers), "before: one per layer")
        noises: list[Any] = []
        for number, (layer, state, old) in enumerate(zip(self.layers, states, previous)):
            if isinstance(layer, Recurrent):
                noises.append(layer.noise(inputs, state, old))
            else:
                pair = _parts(state, 2, f"initial_state[{number}]: one state per direction")
                old_pair = _parts(old, 2, f"before[{number}]: one per direction")
                arguments = zip(directions(layer), pair, old_pair)
                noises.append(tuple(run.noise(inputs, *each) for run, *each in arguments))
        return tuple(noises)

    def extra_repr(self) -> str:
        flags = [f"{name}=True" for name in ("batch_first", "residual") if getattr(self, name)]
        return ", ".join(flags + ([f"dropout={self.dropout}"] if self.dropout else []))


def directions(layer: Any) -> tuple[Recurrent, ...]:
    """Return the recurrences of one layer of a stack, one per direction."""
    return (layer,) if isinstance(layer, Recurrent) else tuple(layer)


def _layer(entry: Any, batch_first: bool) -> nn.Module:
    if not isinstance(entry, (tuple, list)):
        return Recurrent(entry, batch_first=batch_first)
    if len(entry) != 2:
        raise TypeError(f"cells: expected a cell or a pair of cells, got {len(entry)} in one layer")
    forward, backward = entry
    return nn.ModuleList(
        [
            Recurrent(forward, batch_first=batch_first),
            Recurrent(backward, batch_first=batch_first, reverse=True),
        ]
    )


def _parts(state: Any, count: int, wanted: str) -> Sequence[State]:
    if state is None:
        return [None] * count
    if not isinstance(state, (tuple, list)):
        raise TypeError(f"{wanted}: expected a tuple of {count}, got {type(state).__name__}")
    if len(state) != count:
        raise ValueError(f"{wanted}: expected {count}, got {len(state)}")
    return state
