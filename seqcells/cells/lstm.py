"""Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000)."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqcells.cells.base import GatedCell, Weights
from seqcells.cells.checks import positive_integer
from seqcells.cells.concatenated import concatenated, from_gates
from seqcells.noise import Noise, scale_candidate


class LSTMState(NamedTuple):
    """State of an LSTM; unpacks as torch's `(h, c)`."""

    hidden: Tensor
    cell: Tensor


class LSTMCell(GatedCell):
    r"""Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000)::

        i = sigma(W_ii x + b_ii + W_hi h' + b_hi)
        f = sigma(W_if x + b_if + W_hf h' + b_hf)
        g =  tanh(W_ig x + b_ig + W_hg h' + b_hg)
        o = sigma(W_io x + b_io + W_ho h' + b_ho)
        c = f * c' + i * g
        h = o * tanh(c)              with proj_size P: h = W_hr (o * tanh(c))

    On the concatenation `[h', x]` the gates are `i, f, o = sigma(Wg [h', x] + bg)` and
    `g = tanh(Wc [h', x] + bc)`. `to_concatenated` returns `Wg (3H, H+I)`, `bg (3H)` in the order
    input, forget, output, and `Wc (H, H+I)`, `bc (H)`; `from_concatenated` builds a cell from them.

    Counterpart of `torch.nn.LSTMCell`: the same arguments, parameters (rows i, f, g, o) and
    initial values. With `proj_size` (Sak et al. 2014), which in torch only `torch.nn.LSTM` has,
    `weight_hh` is `(4H, P)`, `weight_hr (P, H)` is the last parameter, and the hidden state is
    `(B, P)`.

    Raises:
        TypeError, ValueError: sizes that are not positive integers, `proj_size >= hidden_size`.
    """

    gates = ("input", "forget", "candidate", "output")
    kernel = "lstm"
    _state_form = LSTMState

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        proj_size: int = 0,
        heads: int = 1,
    ) -> None:
        positive_integer(hidden_size, "hidden_size")
        check_projection(proj_size, hidden_size)
        if proj_size and heads != 1:
            raise ValueError(f"heads: expected 1 with proj_size, got {heads}; use one of the two")
        size = proj_size or hidden_size
        super().__init__(
            input_size, hidden_size, bias, device, dtype, recurrent_size=size, heads=heads
        )
        self.proj_size = proj_size
        if proj_size:
            empty = torch.empty(proj_size, hidden_size, device=device, dtype=dtype)
            bound = hidden_size**-0.5
            self.weight_hr = nn.Parameter(nn.init.uniform_(empty, -bound, bound))

    def initial_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> LSTMState:
        """Return zeros: hidden `(B, H)`, or `(B, P)` with projection, and cell `(B, H)`."""
        return LSTMState(
            self._zeros(batch_size, self.proj_size or self.hidden_size, device, dtype),
            self._zeros(batch_size, self.hidden_size, device, dtype),
        )

    @staticmethod
    def activate(
        from_input: Tensor, from_hidden: Tensor, state: LSTMState, drop: Tensor | None = None
    ) -> tuple[LSTMState, tuple[Tensor, ...]]:
        input, forget, candidate, output = (from_input + from_hidden).chunk(4, dim=-1)
        input = torch.sigmoid(input)
        forget = torch.sigmoid(forget)
        candidate = torch.tanh(candidate)
        output = torch.sigmoid(output)
        cell = forget * state.cell + input * scale_candidate(candidate, drop)
        hidden = output * torch.tanh(cell)
        return LSTMState(hidden, cell), (input, forget, candidate, output)

    def step(
        self,
        weights: Weights,
        from_input: Tensor,
        state: LSTMState,
        noise: Noise | None = None,
    ) -> tuple[LSTMState, tuple[Tensor, ...]]:
        state, gates = super().step(weights, from_input, state, noise)
        if weights.weight_hr is not None:
            state = LSTMState(F.linear(state.hidden, weights.weight_hr), state.cell)
        return state, gates

    def to_concatenated(self) -> dict[str, Tensor]:
        """Return the weights on `[hidden, input]`: `Wg`, `bg` (input, forget, output), `Wc`, `bc`.

        Raises:
            ValueError: the cell has a projection, which the concatenated layout lacks.
        """
        if self.proj_size:
            raise ValueError(
                f"expected a cell without projection, got proj_size={self.proj_size}: the "
                "concatenated layout has no weight_hr; use the state dict"
            )
        (Wi, Wf, Wc, Wo), (bi, bf, bc, bo) = concatenated(self)
        return {"Wg": torch.cat((Wi, Wf, Wo)), "bg": torch.cat((bi, bf, bo)), "Wc": Wc, "bc": bc}

    @classmethod
    def from_concatenated(cls, *, Wg: Tensor, bg: Tensor, Wc: Tensor, bc: Tensor) -> Self:
        """Build a cell from these weights on `[hidden, input]`.

        Raises:
            ValueError: inconsistent shapes.
        """
        Wi, Wf, Wo = Wg.tensor_split(3)
        bi, bf, bo = bg.reshape(-1).tensor_split(3)
        return from_gates(cls, [Wi, Wf, Wc, Wo], [bi, bf, bc, bo])

    def extra_repr(self) -> str:
        return super().extra_repr() + (f", proj_size={self.proj_size}" if self.proj_size else "")


def check_projection(proj_size: int, hidden_size: int) -> None:
    """Raise unless `proj_size` is 0, for no projection, or smaller than `hidden_size`."""
    if not isinstance(proj_size, int) or isinstance(proj_size, bool):
        raise TypeError(f"proj_size: expected an integer, got {type(proj_size).__name__}")
    if not 0 <= proj_size < hidden_size:
        raise ValueError(
            f"proj_size: expected 0 for no projection, or less than hidden_size ({hidden_size}), "
            f"got {proj_size}"
        )
