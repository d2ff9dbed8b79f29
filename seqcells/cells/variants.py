"""Base class of the LSTM variants."""

from __future__ import annotations

import torch

from seqcells.cells.base import GatedCell
from seqcells.cells.lstm import LSTMState


class LSTMVariant(GatedCell):
    """A gated cell with the state of an LSTM, `LSTMState(hidden, cell)`."""

    _state_form = LSTMState

    def initial_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> LSTMState:
        """Return zeros: hidden and cell, each `(B, H)`."""
        hidden, cell = (
            self._zeros(batch_size, self.hidden_size, device, dtype) for _ in LSTMState._fields
        )
        return LSTMState(hidden, cell)
