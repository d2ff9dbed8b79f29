"""`LSTMModule` and `GRUModule` for TorchRL, with layers of seqcells.

They have the interface and the results of TorchRL's modules::

    from seqcells.adapters.torchrl import LSTMModule

    module = LSTMModule(input_size=8, hidden_size=64, in_key="observation", out_key="features")

In recurrent mode, TorchRL's modules cut a batch of rollouts into trajectories and pad them. These
run the rollouts in one call, with `resets` where `is_init` is true.
"""

from __future__ import annotations

from typing import Any

import torch
import torchrl.modules
from torch import Tensor, nn

from seqcells.layers import GRU, LSTM
from seqcells.recurrence.compute import compute
from seqcells.recurrence.request import Request
from seqcells.state import State, first_tensor, flat_state


class _Masked:
    """Base class of layers that take the mask of TorchRL's own layers."""

    def forward(self, input: Tensor, hx: Any = None, mask: Tensor | None = None) -> Any:
        """Run the layers; `mask (B, T)` is true for the first steps of each row."""
        lengths = None if mask is None else mask.sum(1)
        return super().forward(input, hx, lengths=lengths)  # type: ignore[misc]


class _LSTM(_Masked, LSTM):  # type: ignore[misc]
    """`seqcells.LSTM` within an `LSTMModule`."""


class _GRU(_Masked, GRU):  # type: ignore[misc]
    """`seqcells.GRU` within a `GRUModule`."""


class LSTMModule(torchrl.modules.LSTMModule):
    """`torchrl.modules.LSTMModule` with `seqcells.LSTM`.

    Args:
        lstm: layers of seqcells or torch, batch first, whose parameters the module shares. It
            replaces the sizes.

    All other arguments are those of TorchRL, without `python_based` and the arguments of its
    backends.
    """

    def __init__(
        self,
        input_size: int | None = None,
        hidden_size: int | None = None,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        proj_size: int = 0,
        bidirectional: bool = False,
        *,
        device: Any = None,
        lstm: nn.RNNBase | None = None,
        **keys: Any,
    ) -> None:
        sizes = input_size, hidden_size, num_layers, bias, batch_first, dropout
        layers = _layers(_LSTM, sizes, lstm, bidirectional, device, proj_size=proj_size)
        super().__init__(lstm=layers, **keys)
        self.recurrent_backend = "scan"  # one pass over a batch, without padding

    def _lstm_scan_with_resets(
        self,
        input: Tensor,
        hidden0_in: Tensor,
        hidden1_in: Tensor,
        hidden: tuple[Tensor, Tensor],
        is_init: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        if self.lstm.bidirectional or _restarts(is_init, hidden0_in, hidden1_in):
            return self._lstm_pad_with_resets(input, hidden0_in, hidden1_in, is_init)
        outputs, (hiddens, cells) = _at_ends(self.lstm, input, hidden, is_init)
        return outputs, hiddens, cells


class GRUModule(torchrl.modules.GRUModule):
    """`torchrl.modules.GRUModule` with `seqcells.GRU`.

    Args:
        gru: layers of seqcells or torch, batch first, whose parameters the module shares. It
            replaces the sizes.

    All other arguments are those of TorchRL, without `python_based` and the arguments of its
    backends.
    """

    def __init__(
        self,
        input_size: int | None = None,
        hidden_size: int | None = None,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        device: Any = None,
        gru: nn.RNNBase | None = None,
        **keys: Any,
    ) -> None:
        sizes = input_size, hidden_size, num_layers, bias, batch_first, dropout
        super().__init__(gru=_layers(_GRU, sizes, gru, bidirectional, device), **keys)
        self.recurrent_backend = "scan"  # one pass over a batch, without padding

    def _gru_scan_with_resets(
        self, input: Tensor, hidden_in: Tensor, hidden: Tensor, is_init: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.gru.bidirectional or _restarts(is_init, hidden_in):
            return self._gru_pad_with_resets(input, hidden_in, is_init)
        outputs, (hiddens,) = _at_ends(self.gru, input, hidden, is_init)
        return outputs, hiddens


def _layers(
    kind: Any, sizes: Any, given: Any, bidirectional: bool, device: Any, **options: int
) -> Any:
    """Return layers of these sizes, or with the parameters of the given ones."""
    if given is not None:
        if sizes[0] is not None or sizes[1] is not None:
            raise ValueError(
                "input_size, hidden_size: expected None with layers, got "
                f"{sizes[0]} and {sizes[1]}; pass either"
            )
        sizes = given.input_size, given.hidden_size, given.num_layers, given.bias
        sizes = *sizes, given.batch_first, given.dropout
        bidirectional, device = given.bidirectional, "meta"
        options = dict.fromkeys(options, given.proj_size)
    layers = kind(*sizes, bidirectional=bidirectional, device=device, **options)
    if given is not None:
        for name, parameter in given.named_parameters():
            setattr(layers, name, parameter)
        layers.train(given.training)
    return layers


def _restarts(is_init: Tensor, *states: Tensor) -> bool:
    """Return whether trajectories within a row may start from other states than a constant zero.

    TorchRL starts each from the state that is stored for its first step.
    """
    starts = is_init[:, 1:]
    if torch.is_grad_enabled() and any(state.requires_grad for state in states):
        return bool(starts.any())
    return any(bool(state[:, 1:][starts].any()) for state in states)


def _at_ends(layers: Any, input: Tensor, hx: State, is_init: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the outputs, and the states `(B, T, L, H)` at the end of each trajectory, or zero."""
    recorded: list[list[Tensor]] = []

    def record(request: Request) -> tuple[State, State]:
        states, final = compute(request._replace(all_states=True))
        recorded.append(flat_state(states))
        return first_tensor(states), final

    resets = torch.nn.functional.pad(is_init[:, 1:], (1, 0))  # the first step starts from `hx`
    outputs, _ = layers._run(*layers._prepare(input, hx, None, resets), compute=record)
    ends = torch.nn.functional.pad(is_init[:, 1:], (0, 1), value=True)[..., None, None]
    states = [torch.stack(parts, dim=2).transpose(0, 1) for parts in zip(*recorded)]
    return outputs.transpose(0, 1), [torch.where(ends, part, 0.0) for part in states]
