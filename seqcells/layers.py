"""Drop-in replacements for `torch.nn.RNN`, `GRU` and `LSTM`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from seqcells.cells import LSTMState, Weights
from seqcells.cells.checks import check_share, positive_integer
from seqcells.cells.lstm import check_projection
from seqcells.cells.table import EQUATIONS
from seqcells.kernels.narrow import float_like
from seqcells.parametrized import repeat_reads
from seqcells.ragged import run_jagged, run_packed
from seqcells.recurrence.compute import compute
from seqcells.recurrence.request import Request
from seqcells.sequences import restore_layout, time_first
from seqcells.state import (
    State,
    autocast,
    conform_state,
    flat_state,
    form_state,
    map_state,
)
from seqcells.validation import check_input, is_valid_input, sequence_layout


class _Layers(nn.RNNBase):
    """Base class: layers and directions of one cell, with torch's parameters."""

    weight_ih_l0: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        positive_integer(input_size, "input_size")
        positive_integer(hidden_size, "hidden_size")
        positive_integer(num_layers, "num_layers")
        check_share(dropout, "dropout")
        mode = self._mode()
        if mode == "LSTM":
            check_projection(proj_size, hidden_size)
        elif proj_size:
            raise ValueError(f"proj_size: expected none, got {proj_size}; the LSTM alone has it")
        super().__init__(
            mode,
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
        )

    def _mode(self) -> str:
        """Return torch's name of the equations."""
        raise NotImplementedError

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor | PackedSequence, Any]:
        """Run all layers over a sequence: L layers, D directions, H hidden (or projected) units.

        Args:
            input: `(T, B, I)`, with `batch_first` `(B, T, I)`, without a batch `(T, I)`, or a
                `PackedSequence`. A nested tensor `(B, T*, I)` with the layout `torch.jagged` has
                its own lengths.
            hx: the initial state of every layer and direction `(L*D, B, H)`, for the LSTM a pair
                `(h_0, c_0)`. The default is zero.
            lengths: `(B,)`, integers from 0 to T in any order. Results equal those of a packed
                input, but the output is padded, with zeros beyond each length.
            resets: bool, in the shape of the input's first two dimensions. Where true, the state
                is set to zero before that step, in the order of each direction. Nested if the
                input is.

        Under autocast, kernels multiply in autocast's dtype, except for float16 on the CPU. Sums,
        states, gates and the readable loop are float32. Results have the dtypes of torch.nn's
        layers: autocast's for the RNN, and for the LSTM unless packed; otherwise that of the
        initial state, by default that of the input. float64 is not converted.

        Returns:
            output: `(T, B, D*H)`, in the layout of the input: packed, or nested with the same
                offsets, if the input is.
            h_n: each row's state after its last step, in the shape of `hx`.

        Raises:
            TypeError: a state, lengths or resets of the wrong type.
            ValueError: a shape, size, dtype or length that does not match.
        """
        if isinstance(input, PackedSequence):
            return run_packed(self, input, hx, lengths, resets)
        if getattr(input, "is_nested", False):
            return run_jagged(self, input, hx, lengths, resets)
        output, state = self._run(*self._prepare(input, hx, lengths, resets))
        if input.dim() == 2:
            state = map_state(lambda part: part.squeeze(1), state)
        return restore_layout(output, input.dim() == 3, self.batch_first), state

    def _prepare(
        self, input: Tensor, hx: Any, lengths: Any, resets: Tensor | None
    ) -> tuple[list[Weights], Tensor, list[State], Tensor | None, Tensor | None]:
        """Validate a padded sequence and return it as `_run` takes it."""
        weights = self._weights()
        self._check_input(input, (2, 3), weights[0].weight_ih)
        batched = input.dim() == 3
        input, lengths, resets = time_first(input, lengths, resets, self.batch_first)
        states = self._initial_states(hx, input.shape[1], input, batched)
        return weights, input, states, lengths, resets

    def _run(
        self,
        weights: list[Weights],
        input: Tensor,
        states: list[State],
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        batch_sizes: Tensor | None = None,
        compute: Callable[[Request], tuple[State, State]] = compute,
    ) -> tuple[Tensor, Any]:
        """Run each layer and direction over a sequence, time first or packed."""
        cell = EQUATIONS[self.mode.lower()]
        left = iter(zip(states, weights, strict=True))
        final_states: list[State] = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(1 + self.bidirectional):
                state, own = next(left)
                fresh = None if resets is None else map_state(torch.zeros_like, state)
                steps = lengths, batch_sizes, resets, direction == 1
                request = Request(cell, own, input, state, fresh, None, *steps)
                output, final_state = compute(request)
                outputs.append(output)
                final_states.append(final_state)
            input = torch.cat(outputs, dim=-1) if self.bidirectional else output
            if self.dropout and self.training and layer < self.num_layers - 1:
                input = F.dropout(input, self.dropout)
        if len(final_states) == 1:
            (state,) = final_states
            final_state = form_state(state, [part.unsqueeze(0) for part in flat_state(state)])
        else:
            final_state = map_state(lambda *parts: torch.stack(parts), *final_states)
        if autocast(input):
            dtype = self._autocast_dtype(input, packed=batch_sizes is not None)
            input = input.to(dtype)
            final_state = map_state(lambda part: part.to(dtype), final_state)
        return input, tuple(final_state) if self.mode == "LSTM" else final_state

    def _weights(self) -> list[Weights]:
        """Return the current weights of each layer and direction, by name."""
        biases = () if self.bias else (None, None)
        own = self._parameters  # without the names of parametrized weights
        if "parametrizations" in self._modules:
            repeat_reads(self)
        found: list[list[Any]] = [
            [own[name] if name in own else getattr(self, name) for name in names]
            for names in self._all_weights
        ]
        return [Weights(*weights[:2], *biases, *weights[2:]) for weights in found]

    def _initial_states(
        self, hx: Any, batch_size: int, input: Tensor, batched: bool = True
    ) -> list[State]:
        """Return the initial state of each layer and direction."""
        rows, width = len(self._all_weights), self.proj_size or self.hidden_size
        if hx is None:
            cell = input.new_zeros(batch_size, self.hidden_size)
            hidden = input.new_zeros(batch_size, width) if self.proj_size else cell
            return [LSTMState(hidden, cell) if self.mode == "LSTM" else hidden] * rows
        batch = (batch_size,) if batched else ()
        expected: State = input.new_empty(rows, *batch, width)
        if self.mode == "LSTM":
            expected = LSTMState(expected, input.new_empty(rows, *batch, self.hidden_size))
        hx = conform_state(hx, expected, "hx")
        if not batched:
            hx = map_state(lambda part: part.unsqueeze(1), hx)
        if self.mode != "LSTM":
            return list(hx.unbind(0))
        return [LSTMState(*parts) for parts in zip(*(part.unbind(0) for part in hx))]

    def _autocast_dtype(self, output: Tensor, packed: bool) -> torch.dtype:
        """Return the dtype of the results under autocast (see `forward`)."""
        if self.mode == "GRU" or (self.mode == "LSTM" and packed) or output.dtype == torch.float64:
            return output.dtype
        return torch.get_autocast_dtype(output.device.type)

    def _check_input(self, input: Tensor, ranks: tuple[int, ...], weight: Tensor) -> None:
        if "weight_ih_l0" in self._buffers:  # quantized
            weight = float_like(self, "weight_ih_l0")
        dtype, size = weight.dtype, self.input_size
        if not is_valid_input(input, size, dtype, ranks):
            layout = f"{sequence_layout(size, self.batch_first)}, or a PackedSequence"
            check_input(input, size, dtype, ranks, layout, "input")


class RNN(_Layers):
    r"""Simple recurrent layers, a drop-in replacement for `torch.nn.RNN`.

    Each layer and direction computes `RNNCell`'s equations, `h = phi(W_ih x + W_hh h' + b)`, with
    phi the tanh or the relu. Arguments, parameters, their names and initial values, results and
    state dicts are those of torch. In addition, the call takes `lengths` and `resets`.

    Raises:
        TypeError, ValueError: invalid sizes, dropout or nonlinearity.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity = nonlinearity
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
        )

    def _mode(self) -> str:
        return f"RNN_{self.nonlinearity.upper()}"


class GRU(_Layers):
    r"""Gated recurrent units, a drop-in replacement for `torch.nn.GRU`.

    Each layer and direction computes `GRUCell`'s equations with `reset_after=True`, as torch and
    cuDNN do. The published form runs through `Recurrent(GRUCell(..., reset_after=False))`.
    Arguments, parameters, their names and initial values, results and state dicts are those of
    torch. In addition, the call takes `lengths` and `resets`.

    Raises:
        TypeError, ValueError: invalid sizes or dropout.
    """

    def _mode(self) -> str:
        return "GRU"


class LSTM(_Layers):
    r"""Long short-term memory, a drop-in replacement for `torch.nn.LSTM`.

    Each layer and direction computes `LSTMCell`'s equations. Arguments, parameters, their names and
    initial values, results and state dicts are those of torch. In addition, the call takes
    `lengths` and `resets`.

    Raises:
        TypeError, ValueError: invalid sizes or dropout.
    """

    def _mode(self) -> str:
        return "LSTM"
