"""The base class of cells with fused gate weights."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqcells.cells.cell import Cell
from seqcells.cells.checks import (
    batch_state,
    check_definition,
    check_heads,
    matching_state,
    overridden_method,
    positive_integer,
)
from seqcells.equations.heads import hidden_product
from seqcells.equations.late import early_product, late_product
from seqcells.equations.protocol import Weights as Weights
from seqcells.kernels.narrow import float_like
from seqcells.noise import Noise, drop_args, scale_hidden
from seqcells.recurrence.compute import compute
from seqcells.recurrence.request import Request
from seqcells.state import State, conform_state, map_state
from seqcells.validation import ANY_RANK, check_input, missing_method, step_layout


class GatedCell(Cell):
    """Base class of cells with two fused matrix products and elementwise equations.

    A subclass names its `gates` and implements `activate`. This class adds weights, validation and
    single steps; `Recurrent` runs the cell over time::

        class Highway(GatedCell):
            gates = ("carry", "candidate")

            @staticmethod
            def activate(from_input, from_hidden, state):
                carry, candidate = (from_input + from_hidden).chunk(2, dim=-1)
                carry, candidate = carry.sigmoid(), candidate.tanh()
                return carry * state + (1 - carry) * candidate, (carry, candidate)

    The gates' weights are stacked in the order of `gates` (G gates, H units, I inputs)::

                      I columns          H columns
                    +-----------+      +-----------+
        gates[0]    |           |      |           |  H rows
        gates[1]    | weight_ih |      | weight_hh |  H rows      gates = chunk(G, dim=-1)
        ...         |           |      |           |  ...
                    +-----------+      +-----------+

    Parameters: `weight_ih (G*H, I)`, `weight_hh (G*H, H)` and, with `bias`, `bias_ih (G*H)` and
    `bias_hh (G*H)`, with torch's names, order and initial values: uniform in +-1/sqrt(H). With K
    `heads`, units read the hidden state of their own head, and `weight_hh` is `(G*H, H/K)`. With
    `input_gates`, the first gates, `weight_ih` and `bias_ih` have the rows of these gates only. A
    subclass declares further parameters in `parameter_shapes` and reads them from `self`.

    The recurrent weights of the `late_gates`, the last gates, multiply a value of the step in place
    of the hidden state: see `activate`.

    Parameter count: `G*H*(I + H + 2)`, with K heads `G*H*(I + H/K + 2)`.

    A built-in cell names its kernel in `kernel` and is listed in `seqcells.cells.table`. A subclass
    that overrides the equations does not use it. The `activate` of any other cell is recorded as a
    program, which native code interprets; `class Highway(GatedCell, compile=True)` compiles it.
    Unsupported cells run as a Python loop: see `seqcells.equations.aten`.
    """

    gates: tuple[str, ...]
    compiles: bool = False
    # The structure of the state, if known without calling `initial_state`: a tensor `(B, H)`, or a
    # NamedTuple of the hidden state and further tensors `(B, H)`.
    _state_form: Any = Tensor
    weight_ih: Tensor
    weight_hh: Any  # a matrix; a vector or None in some cells
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    weight_hr: Tensor  # only in cells with a projected hidden state
    _kernel_methods: tuple[Any, ...]

    def __init_subclass__(cls, compile: bool | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if compile is not None:
            cls.compiles = compile
        if "initial_state" in vars(cls) and "_state_form" not in vars(cls):
            cls._state_form = None
        if "kernel" in vars(cls):
            cls._kernel_methods = tuple(getattr(cls, name) for name in _EQUATION_METHODS)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        recurrent_size: int | None = None,
        heads: int = 1,
    ) -> None:
        super().__init__()
        check_definition(self, GatedCell)
        self.input_size = positive_integer(input_size, "input_size")
        self.hidden_size = positive_integer(hidden_size, "hidden_size")
        self.recurrent_size = recurrent_size or hidden_size
        self.heads = check_heads(heads, self.hidden_size)
        self.bias = bias
        if self.heads > 1 and len(self.parameter_shapes()["weight_hh"] or ()) != 2:
            raise ValueError(f"heads: expected 1 for {type(self).__name__}, got {heads}")
        for name, shape in self.parameter_shapes().items():
            empty = None if shape is None else torch.empty(shape, device=device, dtype=dtype)
            self.register_parameter(name, None if empty is None else nn.Parameter(empty))
        self.reset_parameters()

    @property
    def input_gates(self) -> tuple[str, ...]:
        """The first gates, which have a product with the input. By default all have one."""
        return self.gates

    @property
    def late_gates(self) -> tuple[str, ...]:
        """The last gates, whose product with `weight_hh` is computed by `activate`."""
        return ()

    @property
    def kernel(self) -> str | None:
        """Name of the built-in kernel for the cell's equations, or None."""
        return None

    def built_in_kernel(self) -> str | None:
        """Return `kernel`, or None if the class or the instance overrides the equations."""
        kernel = self.kernel
        if kernel is None:
            return None
        kind, own = type(self), self.__dict__
        from_inputs, activate, step, output = kind._kernel_methods
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
        """Return each parameter's shape by name, None for a missing one. Subclasses add to it."""
        rows, inputs = (len(gates) * self.hidden_size for gates in (self.gates, self.input_gates))
        return {
            "weight_ih": (inputs, self.input_size),
            "weight_hh": (rows, self.recurrent_size // self.heads),
            "bias_ih": (inputs,) if self.bias else None,
            "bias_hh": (rows,) if self.bias else None,
        }

    def reset_parameters(self) -> None:
        """Reinitialise every parameter in place, uniform in +-1/sqrt(H), in torch's order."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def weights(self) -> Weights:
        """Return the weights for one sequence. Each parametrization is evaluated here, once."""
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
        """Return the state before the first step: zeros `(B, H)`."""
        return self._zeros(batch_size, self.hidden_size, device, dtype)

    def from_inputs(self, weights: Weights, inputs: Tensor) -> Tensor:
        """Return `W_ih x + b_ih` for inputs of one step `(B, I)` or of all steps `(T, B, I)`."""
        return F.linear(inputs, weights.weight_ih, weights.bias_ih)

    def activate(
        self, from_input: Tensor, from_hidden: Tensor, state: State
    ) -> tuple[State, tuple[Tensor, ...]]:
        """Apply the cell's equations to `W_ih x + b_ih` and `W_hh h + b_hh`, each `(B, G*H)`.

        A cell with a candidate may take a fourth argument, `drop: Tensor | None = None`, `(B, H)`,
        and multiply the candidate by it where it enters the state (`RecurrentDropout`).

        A cell with `late_gates`, the last of its `gates`, takes `multiply` by this name:
        `multiply(operand, *gates)` returns `W_hh operand + b_hh` of these late gates, with a value
        `(B, H)` of the step in place of the hidden state. `from_hidden` holds the other gates.

        Returns:
            The next state, and the gates in the order of `gates`.
        """
        raise TypeError(missing_method(self, "activate", "from_input, from_hidden, state"))

    def step(
        self, weights: Weights, from_input: Tensor, state: State, noise: Noise | None = None
    ) -> tuple[State, tuple[Tensor, ...]]:
        """Compute one step from the input product; return the next state and the gates.

        Of `noise` it applies the factors on the hidden state and on the candidate.
        """
        hidden = self.output(state)
        if self.late_gates:
            from_hidden = early_product(self, weights, hidden, noise)
            late = {"multiply": late_product(self, weights, noise)}
            return self.activate(from_input, from_hidden, state, *drop_args(noise), **late)
        scaled = scale_hidden(hidden, noise)
        from_hidden = hidden_product(scaled, weights.weight_hh, weights.bias_hh)
        return self.activate(from_input, from_hidden, state, *drop_args(noise))

    def overridden(self) -> str | None:
        """Return the name of an overridden method other than `activate`, or None.

        A recording assumes the base class's version of these methods.
        """
        return overridden_method(self, GatedCell, ("step", "from_inputs", "output"))

    @property
    def linear(self) -> bool:
        """Whether the step is `a * state + b` with a and b from `coefficients` (`LinearCell`)."""
        return False

    def forward(self, input: Tensor, hx: State | None = None, noise: Noise | None = None) -> State:
        """Compute one step from the state `hx`, by default the initial state.

        Shapes:
            input `(B, I)`, states `(B, H)`; unbatched `(I,)` and `(H,)`. The tensors of `noise`
            have a batch dimension and no time dimension.

        Raises:
            TypeError: not a tensor, or a state of another structure than the cell's.
            ValueError: a rank, size, layout, dtype or device does not match the weights.
        """
        rank = input.dim() if isinstance(input, Tensor) else None
        if rank != 2:
            if rank != 1:
                self.check_input(input)
            state = None if hx is None else batch_state(self, hx, input)
            state = GatedCell.forward(self, input.unsqueeze(0), state, noise)
            return map_state(lambda part: part.squeeze(0), state)
        weights = self.weights()
        if input.shape[1] != self.input_size or input.dtype is not weights.weight_ih.dtype:
            self.check_input(input)
        state = None if hx is None else matching_state(self, hx, input)
        if state is None:
            state = self.initial_state(input.shape[0], device=input.device, dtype=input.dtype)
            if hx is not None:
                state = conform_state(hx, state)
        return compute(Request(self, weights, input, state, None, noise))[1]

    def check_input(self, input: Tensor) -> None:
        """Raise unless this is the input of a step, with the size and dtype of the weights.

        A `forward` of a subclass may accept further dimensions.
        """
        size, dtype = self.input_size, self._any_parameter().dtype
        ranks = ANY_RANK if overridden_method(self, GatedCell, ("forward",)) else (1, 2)
        check_input(input, size, dtype, ranks, step_layout(size), "input")

    def extra_repr(self) -> str:
        options = "" if self.bias else ", bias=False"
        options += "" if self.heads == 1 else f", heads={self.heads}"
        return f"{self.input_size}, {self.hidden_size}{options}"

    def _zeros(self, rows: int, columns: int, device: Any, dtype: Any) -> Tensor:
        if device is None or dtype is None:
            like = self._any_parameter()
            device, dtype = device or like.device, dtype or like.dtype
        return torch.zeros(rows, columns, device=device, dtype=dtype)

    def _any_parameter(self) -> Tensor:
        """Return a tensor for the device and dtype, without evaluating a parametrization."""
        for parameter in self._parameters.values():
            if parameter is not None:
                return parameter
        parameter = next(self.parameters(), None)
        return float_like(self, "weight_ih") if parameter is None else parameter


# Methods that define the equations.
_EQUATION_METHODS = ("from_inputs", "activate", "step", "output")
