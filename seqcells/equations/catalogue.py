"""Kernels by name, and the sizes of each."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from seqcells.equations.built_in import PARAMETERS, PROGRAMS
from seqcells.equations.program import CACHED, Program
from seqcells.equations.step import step_of

Function = TypeVar("Function", bound=Callable[..., Any])


def constant(function: Function) -> Function:
    """Mark a function that the compiler calls instead of tracing it.

    As `torch.compiler.assume_constant_result`, which imports all of Dynamo: a second.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


class Kernel(NamedTuple):
    """A kernel: its equations and its sizes.

    Attributes:
        name: of a built-in kernel, or the text of a program.
        backend: the backend that an operator's argument selects; "" for the device's own.
        number: of a built-in kernel in native code; None for another.
        saved: values saved per unit and step for the backward pass. Zoneout saves more (`zoned`).
        parameters: numbers per unit that the step reads beside the products.
        hidden: whether there is a product with the hidden state.
        reads_after: whether the backward pass reads the hidden state after the step.
        drops: whether the step takes a factor.
        whole_rows: whether a unit reads the mean over its row.
        rows: values saved per row and step.
    """

    name: str
    backend: str
    number: int | None
    gates: int
    states: int
    saved: int
    parameters: int = 0
    hidden: bool = True
    reads_after: bool = False
    drops: bool = False
    whole_rows: bool = False
    rows: int = 0

    @property
    def argument(self) -> str:
        """The kernel as the operators of `torch.ops.seqcells` take it."""
        return f"{self.backend} {self.name}".lstrip()

    @property
    def by_hand(self) -> bool:
        """Whether the kernel is written by hand, and so has no program."""
        return self.name in BY_HAND

    @property
    def unchanged(self) -> bool:
        """Whether the kernel takes a cell's weights as the cell has them."""
        return self.name in PRODUCTS_ALONE

    @property
    def compiled(self) -> bool:
        """Whether native code is compiled for the program; otherwise the program is interpreted."""
        return self.name.startswith(COMPILED)

    @property
    def program(self) -> Program:
        """The program of a kernel that is not written by hand."""
        return program_of(self.name)

    def interpreted(self) -> Kernel:
        """Return the same kernel, not compiled."""
        return kernel_of(self.name.removeprefix(COMPILED))

    def zoned(self) -> int:
        """Number of further values saved per unit and step for zoneout.

        They are the hidden state before zoneout, if the backward pass reads it, and the second
        part of the state after it.
        """
        return self.reads_after + (self.states > 1)


# Kernels written by hand, in native/cells.hpp: a second product stands between their gates.
BY_HAND: dict[str, dict[str, Any]] = {
    "gru_reset_before": {"gates": 3, "states": 1, "saved": 3, "drops": True},
    "mgu_reset_before": {"gates": 2, "states": 1, "saved": 2, "drops": True},
}

# The built-in kernels in the order of SEQCELLS_CELLS in native/generated.hpp.
NUMBERS = {name: number for number, name in enumerate((*PROGRAMS, *BY_HAND))}

# Built-in kernels that take a cell's weights as they are.
PRODUCTS_ALONE = tuple(
    name
    for name in NUMBERS
    if name in BY_HAND or (name not in PARAMETERS and Program.parse(PROGRAMS[name]).hidden)
)

# Prefix of a program's text that is to be compiled; without it the program is interpreted.
COMPILED = "compiled "

# Prefixes of a kernel's name that select another backend than the device's own.
PREFIXES = ("triton", "cudnn")

# Names in programs that were exported by version 0.1.0.
RENAMED = {
    "lstm_peephole": "peephole_lstm",
    "lstm_coupled": "coupled_lstm",
    "lstm_light": "light_lstm",
    "lstm_layer_norm": "layer_norm_lstm",
    "gru_layer_norm": "layer_norm_gru",
}


def program_of(name: str) -> Program:
    """Return the program of a built-in kernel that is not written by hand, or of a text.

    Raises:
        ValueError: neither.
    """
    return Program.parse(PROGRAMS.get(name, name.removeprefix(COMPILED)))


@constant
def kernel_of(argument: str) -> Kernel:
    """Return the kernel that an operator's argument states.

    It is the name of a built-in kernel, or the text of a program, after the name of a backend if it
    selects one.

    Raises:
        ValueError: neither.
    """
    return _kernel_of(argument)


@functools.lru_cache(maxsize=CACHED)
def _kernel_of(argument: str) -> Kernel:
    backend, _, name = argument.partition(" ")
    if backend not in PREFIXES:
        backend, name = "", argument
    name = RENAMED.get(name, name)
    number = NUMBERS.get(name)
    if name in BY_HAND:
        return Kernel(name, backend, number, **BY_HAND[name])
    program = program_of(name)
    step = step_of(program)
    return Kernel(
        name,
        backend,
        number,
        program.gates,
        program.states,
        step.kept,
        program.parameters,
        program.hidden,
        step.reads_after,
        program.drops,
        program.whole_rows,
        step.rows,
    )
