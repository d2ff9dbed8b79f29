"""The protocol of a cell, and the fused weights that gated cells share."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqcells.cells.checks import positive_integer, replaced
from seqcells.equations.protocol import Weights as Weights
from seqcells.noise import Noise, drop_of, read
from seqcells.recurrence.compute import compute
from seqcells.recurrence.request import Request
from seqcells.state import State, check_dtype, conform_state, first_tensor, map_state


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

    A cell with a kernel of its own names it in `kernel`, and is listed in `seqcells.cells.table`. A
    subclass that changes the equations never runs on it. Any other cell's `activate` is recorded,
    and interpreted by native code; with `compile=True` beside its base, `class Highway(GatedCell,
    compile=True)`, it is compiled. What no kernel can be made of runs step by step: see
    `seqcells.equations.aten`.
    """

    gates: tuple[str, ...]
    compiles: bool = False
    # The state's form where it is known without asking `initial_state`: a tensor `(B, H)`, or a
    # NamedTuple of the hidden state and one more part.
    _state_form: Any = Tensor
    weight_ih: Tensor
    weight_hh: Any  # a matrix; in some cells a vector, or None
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    weight_hr: Tensor  # where the hidden state is projected
    _made_for: tuple[Any, ...]

    def __init_subclass__(cls, compile: bool | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if compile is not None:
            cls.compiles = compile
        if "initial_state" in vars(cls) and "_state_form" not in vars(cls):
            cls._state_form = None
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

    def built_in_kernel(self) -> str | None:
        """Return `kernel`; None if the class or the cell itself has other equations."""
        kernel = self.kernel
        if kernel is None:
            return None
        kind, own = type(self), vars(self)
        from_inputs, activate, step, output = kind._made_for
        if (
            kind.from_inputs is from_inputs
            and kind.activate is activate
            and kind.step is step
            and kind.output is output
            and not ("activate" in own or "step" in own or "from_inputs" in own or "output" in own)
        ):
            return kernel
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
        own: dict[str, Any] = self._parameters
        if "weight_ih" in own and "weight_hh" in own and "bias_ih" in own and "bias_hh" in own:
            fused = own["weight_ih"], own["weight_hh"], own["bias_ih"], own["bias_hh"]
        else:
            fused = self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh
        projected = self.recurrent_size != self.hidden_size
        return Weights(*fused, self.weight_hr if projected else None)

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

    def overridden(self) -> str | None:
        """Return a method besides `activate` that this class or cell replaces, None without one.

        A recording takes these methods to be those of the base class.
        """
        return replaced(self, GatedCell, ("step", "from_inputs", "output"))

    @property
    def linear(self) -> bool:
        """Whether the step is `a * state + b` by `coefficients`, as that of a `LinearCell`."""
        return False

    def forward(self, input: Tensor, hx: State | None = None, noise: Noise | None = None) -> State:
        """One step; `hx`, torch's name for the state before it, is zero when left out.

        Shapes:
            input `(B, I)`, states `(B, H)`; without a batch `(I,)` and `(H,)`; `noise` always with
            a batch and without a time.

        Raises:
            TypeError: a state of another kind than the cell's own.
            ValueError: a rank, size or dtype that does not fit the weights.
        """
        rank = input.dim()
        if rank != 2:
            if rank != 1:
                raise ValueError(
                    f"input: expected (B, {self.input_size}) or ({self.input_size},), "
                    f"got shape {tuple(input.shape)}"
                )
            batched = None if hx is None else map_state(lambda part: part.unsqueeze(0), hx)
            state = GatedCell.forward(self, input.unsqueeze(0), batched, noise)
            return map_state(lambda part: part.squeeze(0), state)
        weights = self.weights()
        if input.shape[1] != self.input_size or input.dtype is not weights.weight_ih.dtype:
            self.check_input(input)
        state = None if hx is None else self._plainly_fitting(hx, input)
        if state is None:
            state = self.initial_state(input.shape[0], device=input.device)
            if hx is not None:
                state = conform_state(hx, state)
        return compute(Request(self, weights, input, state, None, noise))[1]

    def _plainly_fitting(self, state: State, input: Tensor) -> State | None:
        """The state in the cell's own form; None if it does not plainly fit (`conform_state`)."""
        form, rows, dtype = self._state_form, input.shape[0], input.dtype
        if form is Tensor:
            fits = type(state) is Tensor and state.shape == (rows, self.hidden_size)
            return state if fits and state.dtype is dtype else None
        if form is None or not isinstance(state, tuple) or len(state) != 2:
            return None
        hidden, other = state
        fits = (
            type(hidden) is type(other) is Tensor
            and hidden.shape == (rows, self.recurrent_size)
            and other.shape == (rows, self.hidden_size)
            and hidden.dtype is other.dtype is dtype
        )
        if not fits:
            return None
        return state if type(state) is form else form(hidden, other)

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
        for parameter in self._parameters.values():
            if parameter is not None:
                return parameter
        parameter = next(self.parameters(), None)
        return self.weight_ih if parameter is None else parameter


# The methods in which the equations stand.
_METHODS = ("from_inputs", "activate", "step", "output")
