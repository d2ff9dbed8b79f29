"""Initial values by request. They take cells, layers, stacks: seqcells' own and `torch.nn`'s."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from seqcells.cells import GatedCell, GRUCell, LSTMCell


@torch.no_grad()
def orthogonal_(module: nn.Module, gain: float = 1.0) -> nn.Module:
    """Make each gate's recurrent matrix orthogonal (Saxe et al. 2014), in place.

    Every matrix `weight_hh` of the module and its children is filled, gate by gate: its singular
    values are all `gain`, so that the linear part of a step neither shrinks nor grows what it
    carries. Recurrent weights that are no matrix, as an IndRNN's, stay as they are.

    Raises:
        ValueError: a module without recurrent matrices.
    """
    matrices = [pair for pair in _recurrent_weights(module) if pair[1].dim() == 2]
    if not matrices:
        raise ValueError(f"expected a module with recurrent matrices (weight_hh), got {module}")
    for owner, matrix in matrices:
        for gate in matrix.split(_rows(owner, matrix)):
            nn.init.orthogonal_(gate, gain)
    return module


@torch.no_grad()
def identity_(module: nn.Module, gain: float = 1.0) -> nn.Module:
    """Make each gate's recurrent matrix `gain` times the identity, and all biases zero, in place.

    Made for the RNN with the relu (IRNN, Le et al. 2015): untrained, it carries its state on
    unchanged and adds what comes in. A vector of recurrent weights, which stands for a diagonal,
    is filled with `gain`; a projected gate `(H, P)` passes on the first P units.

    In a gated cell it only lets every gate read its own unit's state alone. What such a cell
    carries is up to its gates, which zero biases leave half open: `forget_bias_` and `chrono_`
    open them, if called afterwards.

    Raises:
        ValueError: a module without recurrent weights.
    """
    found = list(_recurrent_weights(module))
    if not found:
        raise ValueError(f"expected a module with recurrent weights (weight_hh), got {module}")
    for owner, weight in found:
        if weight.dim() == 2:
            for gate in weight.split(_rows(owner, weight)):
                nn.init.eye_(gate).mul_(gain)
        else:
            weight.fill_(gain)
        for name, parameter in owner.named_parameters(recurse=False):
            if name.startswith(("bias_ih", "bias_hh")):
                parameter.zero_()
    return module


@torch.no_grad()
def forget_bias_(module: nn.Module, value: float = 1.0) -> nn.Module:
    """Open every forget gate in the module (Gers et al. 2000; Jozefowicz et al. 2015), in place.

    The two biases of a forget gate then sum to `value`: `bias_ih` holds it, `bias_hh` is zero.
    A gate is a forget gate by its name: that of the LSTMs, and of any `GatedCell` whose `gates`
    say "forget". It has to keep where it is open, as in `f * c'`.

    Raises:
        ValueError: a module without a forget gate that has biases.
    """
    opened = [biases["forget"] for biases in _gate_biases(module) if "forget" in biases]
    if not opened:
        raise ValueError(f"expected a module with a forget gate and its biases, got {module}")
    for first, *others in opened:
        first.fill_(value)
        _zero(others)
    return module


@torch.no_grad()
def chrono_(module: nn.Module, longest: float) -> nn.Module:
    """Spread the time scales of every gated cell from 2 to `longest` steps, in place.

    Chrono initialisation (Tallec & Ollivier 2018), for dependencies of up to T_max = `longest`
    steps: `b_f = log u` with u uniform in [1, T_max - 1], drawn for each unit, so that a unit
    keeps its state for about u + 1 steps, and `b_i = -b_f`. The other gates stay as they are.

    - A gate called "forget" keeps; a gate called "input", where there is one beside it, lets in.
    - A GRU has one gate for both, called "update", which in torch's convention,
      `h = (1 - z) * n + z * h'`, keeps where it is open: `b_z = log u`, and `1 - z = sigma(-b_z)`
      is the input's part. The paper, whose gate lets in, writes the same with the sign turned.

    `bias_ih` holds the value, `bias_hh` is zero for these gates.

    Raises:
        TypeError: `longest` that is no number.
        ValueError: `longest` below 2 or without end; a module without such gates and biases.
    """
    if not isinstance(longest, (int, float)) or isinstance(longest, bool):
        raise TypeError(f"longest: expected a number of steps, got {type(longest).__name__}")
    if not 2 <= longest < math.inf:
        raise ValueError(f"longest: expected a finite number of at least 2 steps, got {longest}")
    gated = [biases for biases in _gate_biases(module) if "forget" in biases or "update" in biases]
    if not gated:
        raise ValueError(
            f"expected a module with a forget or update gate and its biases, got {module}"
        )
    for biases in gated:
        keep, *others = biases["forget" if "forget" in biases else "update"]
        nn.init.uniform_(keep, 1, longest - 1).log_()
        if {"forget", "input"} <= biases.keys():
            let_in, *more = biases["input"]
            let_in.copy_(-keep)
            others += more
        _zero(others)
    return module


def _recurrent_weights(module: nn.Module) -> Iterator[tuple[nn.Module, Tensor]]:
    """Each parameter called `weight_hh...`, beside the module that holds it."""
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            if name.startswith("weight_hh"):
                yield owner, parameter


def _rows(owner: nn.Module, matrix: Tensor) -> int:
    """The rows of one gate."""
    return getattr(owner, "hidden_size", matrix.shape[1])


def _gate_biases(module: nn.Module) -> list[dict[str, tuple[Tensor, ...]]]:
    """For each cell, layer and direction with biases: its gates, each with its one or two."""
    found = []
    for owner in module.modules():
        gates = _gates(owner)
        for name, bias in owner.named_parameters(recurse=False):
            if gates and name.startswith("bias_ih"):
                other = getattr(owner, name.replace("bias_ih", "bias_hh"), None)
                pair = [bias] if other is None else [bias, other]
                found.append(dict(zip(gates, zip(*(part.chunk(len(gates)) for part in pair)))))
    return found


def _gates(module: nn.Module) -> tuple[str, ...]:
    """The names of a cell's or layer's gates, in the order of their weights; of others, none."""
    mode = module.mode if isinstance(module, nn.RNNBase) else None
    if isinstance(module, GatedCell):
        return module.gates
    if isinstance(module, nn.LSTMCell) or mode == "LSTM":
        return LSTMCell.gates
    if isinstance(module, nn.GRUCell) or mode == "GRU":
        return GRUCell.gates
    return ()


def _zero(biases: list[Tensor]) -> None:
    for bias in biases:
        bias.zero_()
