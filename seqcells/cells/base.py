"""The protocol of a cell, and the fused weights that gated cells share."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqcells.cells.checks import positive_integer
from seqcells.noise import Noise, drop_of, noisy_step, read, settle
from seqcells.state import State, check_dtype, conform_state, first_tensor, map_state


class Weights(NamedTuple):
    """A cell's weights as one sequence uses them: fetched once, the same at every step."""

    weight_ih: Tensor
    weight_hh: Any  # the cell's own: a matrix, a vector, None
    bias_ih: Tensor | None = None
    bias_hh: Tensor | None = None
    weight_hr: Tensor | None = None
    parameters: Tensor | None = None  # for a kernel: those that the step reads beside the products


class Cell(nn.Module):
    """One step in time: `cell(input, state=None) -> state`, as `torch.nn.LSTMCell` does it.

    That call is the whole contract, and any callable that keeps it runs in `Recurrent`, derived
    from this class or not::

        class Leaky(nn.Module):
            def __init__(self, input_size, hidden_size):
                super().__init__()
                self.inward = nn.Linear(input_size, hidden_size)

            def forward(self, input, state=None):
                new = torch.tanh(self.inward(input))
                return new if state is None else 0.9 * state + 0.1 * new

        outputs, final_state = Recurrent(Leaky(8, 16))(inputs)

    Two methods are optional. `output(state)` picks what a step hands on: by default the state's
    first tensor. `initial_state(batch_size, *, device, dtype)` makes the state that a sequence
    starts from; a cell without it starts from what it does when its state is None.
    """

    def output(self, state: State) -> Tensor:
        return first_tensor(state)


class GatedCell(Cell):
    """A cell of two fused products and something elementwise between them.

    Such a cell names its `gates` and writes `activate`; weights, checks, single steps and
    everything about time are here and in `Recurrent`::

        class Highway(GatedCell):
            gates = ("carry", "candidate")

            @staticmethod
            def activate(from_input, from_hidden, state):
                carry, candidate = (from_input + from_hidden).chunk(2, dim=-1)
                carry, candidate = carry.sigmoid(), candidate.tanh()
                return carry * state + (1 - carry) * candidate, (carry, candidate)

    The gates' weights are stacked in the order of their names (G gates, H units, I inputs)::

                      I columns          H columns
                    +-----------+      +-----------+
        gates[0]    |           |      |           |  H rows
        gates[1]    | weight_ih |      | weight_hh |  H rows      gates = chunk(G, dim=-1)
        ...         |           |      |           |  ...
                    +-----------+      +-----------+

    Parameters: `weight_ih (G*H, I)`, `weight_hh (G*H, H)` and, with `bias`, `bias_ih (G*H)` and
    `bias_hh (G*H)`, in torch's names, order and initial values: uniform in +-1/sqrt(H). A cell with
    further ones adds them in `parameter_shapes`, and `activate` finds them on `self`.

    Parameter count: `G*H*(I + H + 2)`.

    A cell that a kernel is made for says its name in `kernel`, and stands in `EQUATIONS` by it. A
    subclass that changes the equations is never given it. Any other cell's `activate` is recorded,
    and interpreted by native code; with `compile=True` beside its base, `class Highway(GatedCell,
    compile=True)`, it is compiled. What no kernel can be made of runs step by step: see
    `seqcells.equations.aten`.
    """

    gates: tuple[str, ...]
    compiles: bool = False
    weight_ih: Tensor
    weight_hh: Any  # a matrix; in some cells a vector, or None
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    _made_for: tuple[Any, ...]

    def __init_subclass__(cls, compile: bool | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if compile is not None:
            cls.compiles = compile
        if "kernel" in vars(cls):
            cls._made_for = tuple(getattr(cls, name) for name in _METHODS)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        recurrent_size: int | None = None,
    ) -> None:
        super().__init__()
        self.input_size = positive_integer(input_size, "input_size")
        self.hidden_size = positive_integer(hidden_size, "hidden_size")
        self.recurrent_size = recurrent_size or hidden_size
        self.bias = bias
        for name, shape in self.parameter_shapes().items():
            empty = None if shape is None else torch.empty(shape, device=device, dtype=dtype)
            self.register_parameter(name, None if empty is None else nn.Parameter(empty))
        self.reset_parameters()

    @property
    def kernel(self) -> str | None:
        """The name of the kernel that is made for the cell's equations."""
        return None

    def parameter_shapes(self) -> dict[str, tuple[int, ...] | None]:
        """Each parameter's shape by its name, None where there is none; a cell may have others."""
        rows = len(self.gates) * self.hidden_size
        bias = (rows,) if self.bias else None
        return {
            "weight_ih": (rows, self.input_size),
            "weight_hh": (rows, self.recurrent_size),
            "bias_ih": bias,
            "bias_hh": bias,
        }

    def reset_parameters(self) -> None:
        """Draw every parameter anew, uniform in +-1/sqrt(H), with torch's random numbers."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def weights(self) -> Weights:
        """The weights of one sequence; a parametrization is evaluated here, once."""
        return Weights(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)

    def initial_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """The state before the first step: zeros `(B, H)`."""
        return self._zeros(batch_size, self.hidden_size, device, dtype)

    def from_inputs(self, weights: Weights, inputs: Tensor) -> Tensor:
        """`W_ih x + b_ih`, of one step's inputs `(B, I)` or of all steps' `(T, B, I)` at once."""
        return F.linear(inputs, weights.weight_ih, weights.bias_ih)

    def activate(
        self, from_input: Tensor, from_hidden: Tensor, state: State
    ) -> tuple[State, tuple[Tensor, ...]]:
        """The cell's equations, given `W_ih x + b_ih` and `W_hh h + b_hh`, each `(B, G*H)`.

        Returns the next state, and the gates in the order of their names.

        A cell with a candidate may take a fourth argument, `drop: Tensor | None = None`, `(B, H)`,
        and multiply it onto the candidate where that enters the state (`RecurrentDropout`).
        """
        raise NotImplementedError(f"{type(self).__name__} writes no activate: see GatedCell")

    def step(
        self, weights: Weights, from_input: Tensor, state: State, noise: Noise | None = None
    ) -> tuple[State, tuple[Tensor, ...]]:
        """One step from the input's product on; returns the next state and the gates.

        Of the step's noise it takes the factors on the hidden state and on the candidate.
        """
        hidden = read(self.output(state), noise)
        from_hidden = F.linear(hidden, weights.weight_hh, weights.bias_hh)
        return self.activate(from_input, from_hidden, state, *drop_of(noise))

    def forward(self, input: Tensor, hx: State | None = None, noise: Noise | None = None) -> State:
        """One step; `hx`, torch's name for the state before it, is zero when left out.

        Shapes:
            input `(B, I)`, states `(B, H)`; without a batch `(I,)` and `(H,)`; `noise` always with
            a batch and without a time.

        Raises:
            TypeError: a state of another kind than the cell's own.
            ValueError: a rank, size or dtype that does not fit the weights.
        """
        if input.dim() not in (1, 2):
            raise ValueError(
                f"input: expected (B, {self.input_size}) or ({self.input_size},), "
                f"got shape {tuple(input.shape)}"
            )
        if input.dim() == 1:
            batched = None if hx is None else map_state(lambda part: part.unsqueeze(0), hx)
            state = GatedCell.forward(self, input.unsqueeze(0), batched, noise)
            return map_state(lambda part: part.squeeze(0), state)
        self.check_input(input)
        state = self.initial_state(input.shape[0], device=input.device)
        if hx is not None:
            state = conform_state(hx, state)
        weights, noise = settle(self.weights(), noise)
        return noisy_step(self, weights, self.from_inputs(weights, input), state, noise)[0]

    def check_input(self, input: Tensor) -> None:
        """Raise a ValueError unless features and dtype fit the weights."""
        if input.shape[-1] != self.input_size:
            raise ValueError(
                f"input: expected {self.input_size} features, got {input.shape[-1]} "
                f"in shape {tuple(input.shape)}"
            )
        check_dtype(input, self._any_parameter().dtype, "input")

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")

    def _zeros(self, rows: int, columns: int, device: Any, dtype: Any) -> Tensor:
        if device is None or dtype is None:
            own = self._any_parameter()
            device, dtype = device or own.device, dtype or own.dtype
        return torch.zeros(rows, columns, device=device, dtype=dtype)

    def _any_parameter(self) -> Tensor:
        """One that tells device and dtype, and evaluates no parametrization for it."""
        parameter = next(self.parameters(), None)
        return self.weight_ih if parameter is None else parameter

    def _concatenated(self) -> tuple[list[Tensor], list[Tensor]]:
        """Each gate's matrix on `[hidden, input]` and its one bias, in the gates' order."""
        weights = self.weights()
        matrix = torch.cat((weights.weight_hh, weights.weight_ih), dim=1).detach()
        bias = matrix.new_zeros(len(matrix))
        if weights.bias_ih is not None and weights.bias_hh is not None:
            bias = (weights.bias_ih + weights.bias_hh).detach()
        return list(matrix.chunk(len(self.gates))), list(bias.chunk(len(self.gates)))

    @classmethod
    def _from_gates(cls, matrices: list[Tensor], biases: list[Tensor], **options: Any) -> Self:
        """The inverse of `_concatenated`: the biases go to `bias_ih`, `bias_hh` is zero."""
        hidden_size, columns = len(matrices[0]), matrices[0].shape[-1]
        for matrix, bias in zip(matrices, biases):
            if matrix.shape != (hidden_size, columns) or bias.numel() != hidden_size:
                raise ValueError(
                    "expected for each gate a matrix of H rows on H + I columns and H biases, "
                    f"got {[tuple(part.shape) for part in (*matrices, *biases)]}"
                )
        matrix, bias = torch.cat(matrices), torch.cat([part.reshape(-1) for part in biases])
        cell = cls(
            columns - hidden_size,
            hidden_size,
            device=matrix.device,
            dtype=matrix.dtype,
            **options,
        )
        hidden, inward = matrix[:, :hidden_size], matrix[:, hidden_size:]
        own = {"weight_ih": inward, "weight_hh": hidden, "bias_ih": bias}
        cell.load_state_dict(own | {"bias_hh": torch.zeros_like(bias)})
        return cell


# A cell for each kernel, by the kernel's name: what the kernel computes, on weights of any size.
EQUATIONS: dict[str, GatedCell] = {}

# The methods in which the equations stand.
_METHODS = ("from_inputs", "activate", "step", "output")


def kernel_of(cell: GatedCell) -> str | None:
    """The kernel made for the cell's equations; None if its class or it itself has others."""
    if cell.kernel is None:
        return None
    kind = type(cell)
    for name, method in zip(_METHODS, kind._made_for):
        if getattr(kind, name) is not method or name in vars(cell):
            return None
    return cell.kernel
