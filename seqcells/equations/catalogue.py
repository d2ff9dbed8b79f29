"""Kernels by name, and the sizes of each."""

from __future__ import annotations

import functools
from typing import NamedTuple, Self

from seqcells.equations.built_in import PARAMETERS, PROGRAMS
from seqcells.equations.program import CACHED, Program
from seqcells.equations.step import step_of


class Kind(NamedTuple):
    """Sizes and properties of a kernel.

    Attributes:
        kept: values saved per unit and step for the backward pass. Zoneout saves more (`zoned`).
        parameters: numbers per unit that the step reads beside the products.
        hidden: whether there is a product with the hidden state.
        reads_after: whether the backward pass reads the hidden state after the step.
        drops: whether the step takes a factor.
        whole_rows: whether a unit reads the mean over its row.
        rows: values saved per row and step.
    """

    gates: int
    states: int
    kept: int
    parameters: int = 0
    hidden: bool = True
    reads_after: bool = False
    drops: bool = False
    whole_rows: bool = False
    rows: int = 0

    @classmethod
    def of(cls, program: Program) -> Self:
        """Return the sizes of a program's kernel."""
        step = step_of(program)
        return cls(
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

    def zoned(self) -> int:
        """Number of further values saved per unit and step for zoneout.

        They are the hidden state before zoneout, if the backward pass reads it, and the second
        part of the state after it.
        """
        return self.reads_after + (self.states > 1)


# Kernels written by hand, in native/cells.hpp: a second product stands between their gates.
BY_HAND = {
    "gru_reset_before": Kind(3, 1, 3, drops=True),
    "mgu_reset_before": Kind(2, 1, 2, drops=True),
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


def split(kernel: str) -> tuple[str, str]:
    """Return the backend that a kernel's name selects, or "", and the kernel's present name."""
    backend, _, name = kernel.partition(" ")
    if backend not in PREFIXES:
        backend, name = "", kernel
    return backend, RENAMED.get(name, name)


def program_of(kernel: str) -> Program:
    """Return the program of a kernel that is not written by hand.

    Raises:
        ValueError: neither a built-in kernel nor the text of a program.
    """
    return Program.parse(PROGRAMS.get(kernel, kernel.removeprefix(COMPILED)))


@functools.lru_cache(maxsize=CACHED)
def kind_of(kernel: str) -> Kind:
    """Return the sizes of a kernel: a built-in one, or the text of a program.

    Raises:
        ValueError: neither.
    """
    name = split(kernel)[1]
    return BY_HAND[name] if name in BY_HAND else Kind.of(program_of(name))
