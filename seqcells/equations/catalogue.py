"""The kernels by name: what their cells need, and which are compiled when seqcells is installed."""

from __future__ import annotations

import functools
from typing import NamedTuple, Self

from seqcells.equations.program import CACHED, Program
from seqcells.equations.step import step_of


class Kind(NamedTuple):
    """A cell as its kernel sees it: `kept` values a unit and step wait for the backward pass.

    `whole_rows`: its units see the mean over their row; `rows` values a step are of the whole row.
    Zoneout keeps more: the hidden state as it was made, if the backward pass `reads_after`, and the
    second part of the state as it came out.
    """

    functor: str
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
    def of(cls, name: str, program: Program) -> Self:
        """What a program's functor needs."""
        step = step_of(program)
        return cls(
            name,
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
        """How many more values a unit and step are kept for zoneout."""
        return self.reads_after + (self.states > 1)


# In the order of SEQCELLS_CELLS in native/generated.hpp.
BUILT_IN = {
    "rnn_tanh": Kind("RNNTanh", 1, 1, 0, reads_after=True),
    "rnn_relu": Kind("RNNReLU", 1, 1, 0, reads_after=True),
    "gru": Kind("GRU", 3, 1, 4, drops=True),
    "lstm": Kind("LSTM", 4, 2, 5, drops=True),
    "lstm_peephole": Kind("PeepholeLSTM", 4, 2, 5, 3, drops=True),
    "lstm_coupled": Kind("CoupledLSTM", 3, 2, 4, drops=True),
    "lstm_light": Kind("LightLSTM", 2, 2, 3, reads_after=True, drops=True),
    "lstm_layer_norm": Kind("LayerNormLSTM", 4, 2, 14, 18, drops=True, whole_rows=True, rows=4),
    "gru_layer_norm": Kind("LayerNormGRU", 3, 1, 10, 12, drops=True, whole_rows=True, rows=4),
    "mgu": Kind("MGU", 2, 1, 3, drops=True),
    "indrnn_relu": Kind("IndRNNReLU", 1, 1, 0, 1, hidden=False, reads_after=True, drops=True),
    "indrnn_tanh": Kind("IndRNNTanh", 1, 1, 0, 1, hidden=False, reads_after=True, drops=True),
    "min_gru": Kind("MinGRU", 2, 1, 2, hidden=False, drops=True),
    "min_lstm": Kind("MinLSTM", 3, 1, 5, hidden=False, drops=True),
    "gru_reset_before": Kind("GRUResetBefore", 3, 1, 3, drops=True),
    "mgu_reset_before": Kind("MGUResetBefore", 2, 1, 2, drops=True),
}
NUMBERS = {name: number for number, name in enumerate(BUILT_IN)}

# Those that take a cell's weights as they are.
PRODUCTS_ALONE = tuple(
    name for name, kind in BUILT_IN.items() if kind.hidden and not kind.parameters
)

# Those whose products are no program's: written by hand, in native/cells.hpp.
BY_HAND = ("gru_reset_before", "mgu_reset_before")


# What stands before the text of a program that is to be compiled; else it is interpreted.
COMPILED = "compiled "

# What may stand before a kernel's name: a backend that is not its device's own.
ASKED = ("triton", "cudnn")


def split(kernel: str) -> tuple[str, str]:
    """The backend that a kernel's name asks for, or none, and the name alone."""
    asked, _, name = kernel.partition(" ")
    return (asked, name) if asked in ASKED else ("", kernel)


def program_of(kernel: str) -> Program:
    """The program of a kernel that is not built in."""
    return Program.parse(kernel.removeprefix(COMPILED))


@functools.lru_cache(maxsize=CACHED)
def kind_of(kernel: str) -> Kind:
    """What a kernel needs: one of those built in, or the text of a program.

    Raises:
        ValueError: neither.
    """
    kernel = split(kernel)[1]
    if kernel in BUILT_IN:
        return BUILT_IN[kernel]
    return Kind.of("Own", program_of(kernel))
