"""Long expressive memory (Rusch et al. 2022)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from seqcells.cells.base import GatedCell
from seqcells.equations.late import Multiply
from seqcells.noise import scale_candidate


class LEMState(NamedTuple):
    """State of an LEM: two tensors `(B, H)`."""

    hidden: Tensor
    memory: Tensor


class LEMCell(GatedCell):
    r"""Long expressive memory (Rusch et al., "Long expressive memory for sequence modeling",
    2022)::

        p = d * sigma(W_ip x + b_ip + W_hp h' + b_hp)
        q = d * sigma(W_iq x + b_iq + W_hq h' + b_hq)
        u = tanh(W_iu x + b_iu + W_hu h' + b_hu)
        z = (1 - p) * z' + p * u
        v = tanh(W_iv x + b_iv + W_hv z + b_hv)
        h = (1 - q) * h' + q * v

    It discretises two coupled differential equations. Its gates p and q are their step sizes, d is
    `time_step`. The hidden state reads the new memory z. The paper calls it y, and has one bias per
    gate.

    Arguments are those of `LSTMCell` without projection, and `time_step`. The state is `(h, z)`, an
    `LEMState`. The parameters have the rows of four gates, in the order p, q, u, v.

    Parameter count: `4*H*(I + H + 2)`.

    Raises:
        TypeError: sizes that are not integers, a time step that is not a number.
        ValueError: sizes that are not positive, a time step that is not in (0, 1].
    """

    gates = ("memory_step", "hidden_step", "memory_candidate", "hidden_candidate")
    late_gates = ("hidden_candidate",)
    _state_form = LEMState

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        time_step: float = 1.0,
        heads: int = 1,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype, heads=heads)
        if not isinstance(time_step, (int, float)) or isinstance(time_step, bool):
            raise TypeError(f"time_step: expected a number, got {type(time_step).__name__}")
        if not 0 < time_step <= 1:
            raise ValueError(f"time_step: expected a number in (0, 1], got {time_step}")
        self.time_step = time_step

    @property
    def kernel(self) -> str | None:
        return "lem" if self.time_step == 1 else None

    def initial_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> LEMState:
        """Return zeros: hidden and memory, each `(B, H)`."""
        hidden, memory = (self._zeros(batch_size, self.hidden_size, device, dtype) for _ in "hz")
        return LEMState(hidden, memory)

    def activate(  # type: ignore[override]
        self,
        from_input: Tensor,
        from_hidden: Tensor,
        state: LEMState,
        drop: Tensor | None = None,
        *,
        multiply: Multiply,
    ) -> tuple[LEMState, tuple[Tensor, ...]]:
        H = state.memory.shape[-1]
        sums = from_input[:, : 3 * H] + from_hidden
        memory_step, hidden_step, memory_candidate = sums.chunk(3, dim=-1)
        memory_step = self.time_step * torch.sigmoid(memory_step)
        hidden_step = self.time_step * torch.sigmoid(hidden_step)
        memory_candidate = torch.tanh(memory_candidate)
        memory = scale_candidate(memory_candidate, drop)
        memory = (1 - memory_step) * state.memory + memory_step * memory
        hidden_candidate = torch.tanh(from_input[:, 3 * H :] + multiply(memory, "hidden_candidate"))
        hidden = scale_candidate(hidden_candidate, drop)
        hidden = (1 - hidden_step) * state.hidden + hidden_step * hidden
        gates = (memory_step, hidden_step, memory_candidate, hidden_candidate)
        return LEMState(hidden, memory), gates

    def extra_repr(self) -> str:
        step = "" if self.time_step == 1 else f", time_step={self.time_step}"
        return super().extra_repr() + step
