"""A cell's equations as a program, and a program as a cell."""

from __future__ import annotations

import functools
import operator
import weakref
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import parametrize

from seqcells.cells.base import EQUATIONS, GatedCell, Weights
from seqcells.cells.checks import takes
from seqcells.equations.catalogue import program_of
from seqcells.equations.program import CACHED, Program, UntraceableError
from seqcells.equations.snapshots import is_plain_class
from seqcells.equations.tracing import traced
from seqcells.noise import Noise, drop_of, read
from seqcells.state import State, first_tensor, flat_state, form_state

# What recording each cell gave, while it is alive: not on the cell, which is copied and pickled.
RECORDED: weakref.WeakKeyDictionary[GatedCell, Any] = weakref.WeakKeyDictionary()


def constant(function: Callable[..., Any]) -> Callable[..., Any]:
    """What the compiler is to call, and not to look into.

    As `torch.compiler.assume_constant_result`, for which all of dynamo is imported: a second.
    """
    function._dynamo_marked_constant = True
    return function


def program(cell: GatedCell) -> Program:
    """The cell's elementwise part; for a cell without a matrix on the hidden state, its step.

    Raises:
        UntraceableError: what no kernel can compute, and why.
    """
    return trace(cell)[0]


def trace(cell: GatedCell) -> tuple[Program, list[str]]:
    """The cell's program, and the names of the parameters that it reads beside the products.

    Raises:
        UntraceableError: what no kernel can compute, and why.
    """
    state = cell.initial_state(2, device="cpu")  # where nothing waits for a device
    parts = flat_state(state)
    if len(parts) > 2 or any(part.shape != (2, cell.hidden_size) for part in parts):
        raise UntraceableError(
            f"{type(cell).__name__}: expected a state of one or two parts (B, H), got "
            f"{[tuple(part.shape) for part in parts]}"
        )

    if isinstance(state, tuple) and not is_plain_class(type(state)):
        raise UntraceableError(f"{type(state).__name__} has methods, which may read something else")

    def activate(
        given: dict[str, Tensor],
        from_input: Tensor,
        from_hidden: Tensor,
        parts: list[Tensor],
        *drop: Tensor,
    ) -> list[Tensor]:
        twin, before = with_parameters(cell, given), form_state(state, parts)
        if _has_matrix(cell):
            new, _ = twin.activate(from_input, from_hidden, before, *drop)
        else:
            noise = [Noise(**{factor_of(cell): factor}) for factor in drop]
            new, _ = twin.step(Weights(None, given.get("weight_hh")), from_input, before, *noise)
        return flat_state(new)

    own = {
        name: torch.empty(value.shape, dtype=value.dtype) for name, value in own_parameters(cell)
    }
    return traced(
        activate,
        len(cell.gates),
        _has_matrix(cell),
        cell.hidden_size,
        parts,
        own,
        takes(cell.step if factor_of(cell) == "hidden" else cell.activate, 4),
    )


def kernel_weights(kernel: str, cell: GatedCell, weights: Weights) -> Weights:
    """The weights as the cell's kernel takes them: what the step reads beside the products, one
    row a number that each unit has, goes into `parameters`."""
    if kernel in EQUATIONS:
        counts = _own_counts(kernel)
    else:
        counts = [(name, 0) for name in _recorded_names(cell)]
    rows = []
    for name, count in counts:
        value = weights.weight_hh if name == "weight_hh" else getattr(cell, name)
        if value is None:  # a cell without biases, by a kernel that adds them
            value = weights.weight_ih.new_zeros(count * cell.hidden_size)
        rows.append(value.reshape(-1, cell.hidden_size).to(weights.weight_ih.dtype))
    if not _has_matrix(cell):
        weights = weights._replace(weight_hh=None)
    return weights._replace(parameters=torch.cat(rows) if rows else None)


@constant
def _recorded_names(cell: GatedCell) -> tuple[str, ...]:
    return tuple(RECORDED[cell].names)


@constant
def _own_counts(kernel: str) -> tuple[tuple[str, int], ...]:
    """Of the parameters that a built-in kernel reads, how many numbers a unit has in each."""
    return _counted(kernel)


@functools.cache
def _counted(kernel: str) -> tuple[tuple[str, int], ...]:
    return tuple((name, len(value)) for name, value in own_parameters(EQUATIONS[kernel]))


def factor_of(cell: GatedCell) -> str:
    """The part of a `Noise` that is `d0` in the cell's program.

    It is the candidate, but for cells whose hidden state meets a vector: there no product reads it,
    so that its factor stands among what is elementwise.
    """
    shape = cell.parameter_shapes()["weight_hh"]
    return "hidden" if shape is not None and len(shape) == 1 else "candidate"


def _has_matrix(cell: GatedCell) -> bool:
    """Whether there is a product with the hidden state; a vector is one number a unit."""
    shape = cell.parameter_shapes()["weight_hh"]
    return shape is not None and len(shape) == 2


def own_parameters(cell: GatedCell) -> list[tuple[str, Tensor]]:
    """The parameters that the step reads beside the products."""
    names = [name for name, value in cell._parameters.items() if value is not None]
    if parametrize.is_parametrized(cell):
        names += cell.parametrizations
    weights = cell.weights()._asdict()
    products = {name for name, value in weights.items() if value is not None}
    products -= set() if _has_matrix(cell) else {"weight_hh"}
    return [(name, getattr(cell, name)) for name in names if name not in products]


def with_parameters(cell: GatedCell, parameters: dict[str, Tensor]) -> GatedCell:
    """The cell with these tensors in its parameters' place."""
    kind = type(cell).__bases__[0] if parametrize.is_parametrized(cell) else type(cell)
    twin = kind.__new__(kind)
    vars(twin).update(vars(cell) | {"_parameters": {}} | parameters)
    return twin


@functools.lru_cache(maxsize=CACHED)
def interpreted(kernel: str) -> Interpreted:
    """What a kernel computes, as a cell without weights of its own."""
    return Interpreted(program(EQUATIONS[kernel]) if kernel in EQUATIONS else program_of(kernel))


class Interpreted:
    """A cell by its program alone: what `unroll.reference` needs of one."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def initial_state(self, batch_size: int) -> State:
        """A state in the cell's form, of no width."""
        parts = (torch.empty(batch_size, 0),) * self.program.states
        return parts if len(parts) > 1 else parts[0]

    def from_inputs(self, weights: Weights, inputs: Tensor) -> Tensor:
        return F.linear(inputs, weights.weight_ih, weights.bias_ih)

    def output(self, state: State) -> Tensor:
        return first_tensor(state)

    def step(
        self, weights: Weights, from_input: Tensor, state: State, noise: Noise | None = None
    ) -> tuple[State, tuple[()]]:
        gates, parts = self.program.gates, flat_state(state)
        known = {f"s{n}": part for n, part in enumerate(parts)} | {"d0": (*drop_of(noise), 1.0)[0]}
        fused = {"x": from_input}
        if self.program.hidden:
            fused["h"] = F.linear(read(parts[0], noise), weights.weight_hh, weights.bias_hh)
        for kind, product in fused.items():
            known |= {f"{kind}{n}": gate for n, gate in enumerate(product.chunk(gates, dim=-1))}
        if weights.parameters is not None:
            known |= {f"p{n}": row for n, row in enumerate(weights.parameters)}
        results = self.program.run(known, compute)
        return form_state(state, results), ()


def compute(operation: str, *operands: Tensor | float) -> Tensor:
    """What a program's operation means."""
    return _COMPUTE[operation](*operands)


_COMPUTE = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": operator.neg,
    "abs": torch.abs,
    "exp": torch.exp,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "softplus": F.softplus,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "mean": lambda a: a.mean(-1, keepdim=True),
    "where_positive": lambda a, b, c: torch.where(a > 0, b, c),
}
