"""Recurrent highway network (Zilly et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from seqcells.cells.base import GatedCell
from seqcells.cells.checks import positive_integer
from seqcells.equations.late import Multiply
from seqcells.noise import scale_candidate

DEPTH = 3  # the depth with a built-in kernel


class RHNCell(GatedCell):
    r"""Recurrent highway network, with several layers per step (Zilly et al., "Recurrent highway
    networks", 2017)::

        s_0 = h'
        n_l =  tanh(W_in x + b_in + W_hn_l s_l-1 + b_hn_l)       x in the first layer only
        t_l = sigma(W_it x + b_it + W_ht_l s_l-1 + b_ht_l)
        s_l = t_l * n_l + (1 - t_l) * s_l-1                      for l = 1, ..., depth
        h   = s_depth

    The carry gate is `1 - t`, as in the paper's experiments, which have one bias per gate. They
    start with negative biases of t, so that a layer first keeps most of its state:
    `cell.bias_hh.data.view(depth, 2, -1)[:, 1] = -2`. Depths above 17 have no kernel.

    Arguments are those of `LSTMCell` without projection, and `depth`, the number of layers per
    step. The state is `h`. The parameters have the rows of two gates per layer, in the order n_1,
    t_1, n_2, t_2, ...: `weight_ih (2H, I)`, `weight_hh (2*depth*H, H)` and, with `bias`,
    `bias_ih (2H)` and `bias_hh (2*depth*H)`.

    Parameter count: `2*H*(I + 1) + 2*depth*H*(H + 1)`.

    Raises:
        TypeError, ValueError: sizes or a depth that are not positive integers.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        depth: int = DEPTH,
        heads: int = 1,
    ) -> None:
        self.depth = positive_integer(depth, "depth")
        layers = range(1, depth + 1)
        self.gates = tuple(f"{gate}{n}" for n in layers for gate in ("candidate", "transform"))
        super().__init__(input_size, hidden_size, bias, device, dtype, heads=heads)

    @property
    def input_gates(self) -> tuple[str, ...]:
        return self.gates[:2]

    @property
    def late_gates(self) -> tuple[str, ...]:
        return self.gates[2:]

    @property
    def kernel(self) -> str | None:
        return "rhn" if self.depth == DEPTH else None

    def activate(
        self,
        from_input: Tensor,
        from_hidden: Tensor,
        state: Tensor,
        drop: Tensor | None = None,
        multiply: Multiply | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        sums = from_input + from_hidden
        gates: list[Tensor] = []
        for layer in range(1, self.depth + 1):
            if multiply is not None and layer > 1:
                sums = multiply(state, f"candidate{layer}", f"transform{layer}")
            candidate, transform = sums.chunk(2, dim=-1)
            candidate = torch.tanh(candidate)
            transform = torch.sigmoid(transform)
            state = transform * scale_candidate(candidate, drop) + (1 - transform) * state
            gates += [candidate, transform]
        return state, tuple(gates)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, depth={self.depth}"
