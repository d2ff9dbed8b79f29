"""Recurrent modules as data: the directions of each layer, with kernel, weights and states."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

import seqcells
from seqcells.cells.base import GatedCell, Weights
from seqcells.equations.cache import kernel_for
from seqcells.equations.catalogue import Kernel, kernel_of
from seqcells.equations.heads import full_matrix
from seqcells.equations.recording import kernel_weights
from seqcells.modifiers.base import Modifier, innermost, resolve_noise
from seqcells.noise import Noise, apply_weight_factor
from seqcells.recurrent import Recurrent, is_fusible
from seqcells.state import first_tensor, flat_state

LAYERS = (seqcells.RNN, seqcells.GRU, seqcells.LSTM, nn.RNN, nn.GRU, nn.LSTM)


class Direction(NamedTuple):
    """One direction of a layer, in evaluation mode.

    Attributes:
        kernel: the equations.
        weights: the weights in the form of the kernel.
        start: the parts of the initial state, each `(1, H)`, the hidden state first.
        zone: the share of the old value of each part, each `(1, H)`; empty without zoneout.
        drop: the factor `d0` of the kernel's program, `(1, H)`, or None.
        reverse: run from the last step to the first.
    """

    kernel: Kernel
    weights: Weights
    start: list[Tensor]
    zone: list[Tensor]
    drop: Tensor | None
    reverse: bool

    @property
    def input_size(self) -> int:
        return self.weights.weight_ih.shape[1]

    @property
    def hidden_size(self) -> int:
        """The number of units H."""
        return self.start[-1].shape[1]

    @property
    def output_size(self) -> int:
        """The size of the hidden state, which a projection reduces."""
        return self.start[0].shape[1]


def directions_by_layer(module: nn.Module) -> list[list[Direction]]:
    """Return the directions of each layer: forward and, if bidirectional, backward.

    Raises:
        TypeError: `module` is no recurrent module.
        ValueError: a cell or modifier has equations that no graph can express.
    """
    if type(module) in LAYERS:
        return _directions_of_layers(module)
    if isinstance(module, seqcells.Stack):
        entries = [[run] if isinstance(run, Recurrent) else run for run in module.layers]
        return [[_direction_of_recurrent(run) for run in runs] for runs in entries]
    if isinstance(module, (GatedCell, Modifier)):
        module = Recurrent(module)
    if isinstance(module, Recurrent):
        return [[_direction_of_recurrent(module)]]
    raise TypeError(
        f"expected a recurrent module, got {type(module).__name__}; use a cell, Recurrent or Stack "
        "of seqcells, or an RNN, GRU or LSTM of seqcells or torch.nn"
    )


def _directions_of_layers(layers: nn.RNNBase) -> list[list[Direction]]:
    kernel, count = kernel_of(layers.mode.lower()), 2 if layers.bidirectional else 1
    directions = []
    for number, parameters in enumerate(layers.all_weights):
        weight_ih, weight_hh, *others = parameters
        biases, projection = (others[:2], others[2:]) if layers.bias else ([None, None], others)
        weights = Weights(weight_ih, weight_hh, *biases, *projection)
        sizes = [layers.proj_size or layers.hidden_size, layers.hidden_size][: kernel.states]
        start = [weight_ih.new_zeros(1, size) for size in sizes]
        directions.append(Direction(kernel, weights, start, [], None, number % count == 1))
    return [directions[n : n + count] for n in range(0, len(directions), count)]


def _direction_of_recurrent(recurrent: Recurrent) -> Direction:
    name = " ".join(str(recurrent.cell).split())
    if not is_fusible(recurrent.cell):
        raise ValueError(
            f"expected a GatedCell that does not override forward and has no hooks, got {name}; "
            "write its equations as the activate of a GatedCell, without hooks"
        )
    cell = innermost(recurrent.cell)
    built_in = cell.built_in_kernel()
    kernel, reason = (kernel_of(built_in), "") if built_in else kernel_for(cell)
    if kernel is None:
        raise ValueError(
            f"expected a cell whose equations can be recorded, got {name}: {reason}; derive the "
            "cell from GatedCell, and write activate with the operations in seqcells.equations.aten"
        )
    state = recurrent.cell.initial_state(1)
    noise = resolve_noise(recurrent.cell, None, state, 1)
    weights, noise = apply_weight_factor(recurrent.cell.weights(), noise)
    if not kernel.weights_unchanged:
        weights = kernel_weights(kernel, cell, weights)
    if weights.weight_hh is not None and weights.weight_hh.dim() == 2:
        units = first_tensor(state).shape[-1]
        weights = weights._replace(weight_hh=full_matrix(weights.weight_hh, units))
    zone, drop = _constant_noise(noise or Noise(), name)
    return Direction(kernel, weights, flat_state(state), zone, drop, recurrent.reverse)


def _constant_noise(noise: Noise, name: str) -> tuple[list[Tensor], Tensor | None]:
    """Return the shares of zoneout and the factor on the candidate, equal at all steps."""
    zone = flat_state(noise.zone)
    factors = [*zone, *([] if noise.candidate is None else [noise.candidate])]
    if noise.hidden is not None or any(factor.dim() > 2 for factor in factors):
        raise ValueError(
            f"expected modifiers without noise in evaluation mode, got {name}, which draws noise "
            "per step or for the hidden state; remove the modifier"
        )
    return zone, noise.candidate
