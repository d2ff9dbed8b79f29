"""Initial values by request. They take cells and layers, seqcells' own and `torch.nn`'s."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from seqcells.cells import LSTMCell


@torch.no_grad()
def orthogonal_(module: nn.Module, gain: float = 1.0) -> nn.Module:
    """Make each gate's recurrent matrix orthogonal (Saxe et al. 2014), in place.

    Every `weight_hh` of the module and its children is filled, gate by gate: its singular values
    are all `gain`, so that the linear part of a step neither shrinks nor grows what it carries.

    Raises:
        ValueError: a module without recurrent weights.
    """
    for owner, matrix in _found(module, "weight_hh", "recurrent weights"):
        for gate in matrix.split(owner.hidden_size):
            nn.init.orthogonal_(gate, gain)
    return module


@torch.no_grad()
def forget_bias_(module: nn.Module, value: float = 1.0) -> nn.Module:
    """Open the forget gates of every LSTM in the module (Gers et al. 2000), in place.

    The two biases of a forget gate then sum to `value`: `bias_ih` holds it, `bias_hh` is zero.

    Raises:
        ValueError: a module without an LSTM that has biases.
    """
    lstms = nn.ModuleList([part for part in module.modules() if _is_lstm(part)])
    for name, start in (("bias_ih", value), ("bias_hh", 0.0)):
        for _, bias in _found(lstms, name, "LSTM biases"):
            bias.chunk(4)[LSTMCell.gates.index("forget")].fill_(start)
    return module


def _is_lstm(module: nn.Module) -> bool:
    return isinstance(module, (LSTMCell, nn.LSTMCell)) or getattr(module, "mode", None) == "LSTM"


def _found(module: nn.Module, prefix: str, wanted: str) -> list[tuple[nn.Module, Tensor]]:
    """Each parameter whose own name starts so, beside the module that holds it."""
    found = list(_named(module, prefix))
    if not found:
        raise ValueError(f"expected a module with {wanted} ({prefix}), got {module}")
    return found


def _named(module: nn.Module, prefix: str) -> Iterator[tuple[nn.Module, Tensor]]:
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            if name.startswith(prefix):
                yield owner, parameter
