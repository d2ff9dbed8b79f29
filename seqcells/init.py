"""Initialisation schemes, in place, for cells, layers and stacks of seqcells and `torch.nn`."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from seqcells.cells import GatedCell, GRUCell, LSTMCell


@torch.no_grad()
def orthogonal_(module: nn.Module, gain: float = 1.0) -> nn.Module:
    """Make each gate's recurrent matrix orthogonal (Saxe et al. 2014), in place.

    It fills every matrix `weight_hh` of the module and its children, gate by gate and head by head.
    All singular values are `gain`, so for a gain of 1 the linear part of a step preserves norms.
    Recurrent weights that are not matrices, such as those of an IndRNN, are unchanged.

    Raises:
        ValueError: the module has no recurrent matrices.
    """
    matrices = [pair for pair in _recurrent_weights(module) if pair[1].dim() == 2]
    if not matrices:
        raise ValueError(f"expected a module with recurrent matrices (weight_hh), got {module}")
    for owner, matrix in matrices:
        for block in matrix.split(_rows_per_block(owner, matrix)):
            nn.init.orthogonal_(block, gain)
    return module


@torch.no_grad()
def identity_(module: nn.Module, gain: float = 1.0) -> nn.Module:
    """Make each gate's recurrent matrix `gain` times the identity, and all biases zero, in place.

    Designed for the RNN with the relu (IRNN, Le et al. 2015), which initially copies its state and
    adds its inputs. A vector of recurrent weights, as in an IndRNN, is filled with `gain`. A
    projected gate `(H, P)` copies the first P units.

    In a gated cell, each gate then reads only the state of its own unit. How much state such a cell
    keeps depends on its gates, which zero biases leave half open. Call `forget_bias_` or `chrono_`
    afterwards to open them.

    Raises:
        ValueError: the module has no recurrent weights.
    """
    found = list(_recurrent_weights(module))
    if not found:
        raise ValueError(f"expected a module with recurrent weights (weight_hh), got {module}")
    for owner, weight in found:
        if weight.dim() == 2:
            for block in weight.split(_rows_per_block(owner, weight)):
                nn.init.eye_(block).mul_(gain)
        else:
            weight.fill_(gain)
        for name, parameter in owner.named_parameters(recurse=False):
            if name.startswith(("bias_ih", "bias_hh")):
                parameter.zero_()
    return module


@torch.no_grad()
def forget_bias_(module: nn.Module, value: float = 1.0) -> nn.Module:
    """Open every forget gate in the module (Gers et al. 2000; Jozefowicz et al. 2015), in place.

    The biases of each forget gate then sum to `value`: `bias_ih` is `value`, `bias_hh` is zero.
    Forget gates are found by name: those of LSTMs, and of any `GatedCell` with "forget" in `gates`.
    An open forget gate must keep the state, as in `f * c'`.

    Raises:
        ValueError: the module has no forget gate with biases.
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

    Chrono initialisation (Tallec & Ollivier 2018) for dependencies of up to T_max = `longest`
    steps: `b_f = log u` with u uniform in [1, T_max - 1], drawn per unit, and `b_i = -b_f`. A unit
    then keeps its state for about u + 1 steps. Other gates are unchanged.

    - In cells with a gate named "forget", its bias is b_f, and that of a gate named "input" is b_i.
    - In cells with a gate named "update", such as the GRU `h = (1 - z) * n + z * h'` with an open
      gate keeping the state, `b_z = log u`. The weight of the input is `1 - z = sigma(-b_z)`. The
      paper's update gate is `1 - z`, so its bias has the opposite sign.

    For these gates `bias_ih` is the value and `bias_hh` is zero.

    Raises:
        TypeError: `longest` is not a number.
        ValueError: `longest` is below 2 or not finite, or the module has no such gates with biases.
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
        keep_bias, *others = biases["forget" if "forget" in biases else "update"]
        nn.init.uniform_(keep_bias, 1, longest - 1).log_()
        if {"forget", "input"} <= biases.keys():
            input_bias, *input_others = biases["input"]
            input_bias.copy_(-keep_bias)
            others += input_others
        _zero(others)
    return module


def _recurrent_weights(module: nn.Module) -> Iterator[tuple[nn.Module, Tensor]]:
    """Yield each parameter named `weight_hh...` with its module."""
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            if name.startswith("weight_hh"):
                yield owner, parameter


def _rows_per_block(owner: nn.Module, matrix: Tensor) -> int:
    """Return the number of rows per gate and head."""
    rows: int = getattr(owner, "hidden_size", matrix.shape[1])
    return rows // getattr(owner, "heads", 1)


def _gate_biases(module: nn.Module) -> list[dict[str, tuple[Tensor, ...]]]:
    """Return a dict from gate name to its one or two biases per cell, layer and direction."""
    found = []
    for owner in module.modules():
        gates = _gates(owner)
        inputs = getattr(owner, "input_gates", gates)  # the gates of bias_ih
        for name, bias in owner.named_parameters(recurse=False):
            if gates and name.startswith("bias_ih"):
                biases: dict[str, tuple[Tensor, ...]] = dict.fromkeys(gates, ())
                other = getattr(owner, name.replace("bias_ih", "bias_hh"), None)
                for names, part in ((inputs, bias), (gates, other)):
                    if part is not None:
                        for gate, block in zip(names, part.chunk(len(names))):
                            biases[gate] += (block,)
                found.append(biases)
    return found


def _gates(module: nn.Module) -> tuple[str, ...]:
    """Return the gate names of a cell or layer in the order of the weights; else an empty tuple."""
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
