"""The kernels by name: what their cells need, and which are compiled when seqcells is installed."""

from __future__ import annotations

import functools
from typing import NamedTuple

from seqcells.kernels.program import Program
from seqcells.kernels.source import Functor


class Kind(NamedTuple):
    """A cell as its kernel sees it: `kept` values a unit and step wait for the backward pass."""

    functor: str
    gates: int
    states: int
    kept: int
    parameters: int = 0
    hidden: bool = True


# In the order of SEQCELLS_CELLS in native/generated.hpp.
BUILT_IN = {
    "rnn_tanh": Kind("RNNTanh", 1, 1, 0),
    "rnn_relu": Kind("RNNReLU", 1, 1, 0),
    "gru": Kind("GRU", 3, 1, 4),
    "lstm": Kind("LSTM", 4, 2, 5),
    "lstm_peephole": Kind("PeepholeLSTM", 4, 2, 5, 3),
    "lstm_coupled": Kind("CoupledLSTM", 3, 2, 4),
    "lstm_light": Kind("LightLSTM", 2, 2, 3),
    "mgu": Kind("MGU", 2, 1, 3),
    "indrnn_relu": Kind("IndRNNReLU", 1, 1, 0, 1, hidden=False),
    "indrnn_tanh": Kind("IndRNNTanh", 1, 1, 0, 1, hidden=False),
    "min_gru": Kind("MinGRU", 2, 1, 2, hidden=False),
    "min_lstm": Kind("MinLSTM", 3, 1, 5, hidden=False),
    "gru_reset_before": Kind("GRUResetBefore", 3, 1, 3),
}
NUMBERS = {name: number for number, name in enumerate(BUILT_IN)}

# Those that take a cell's weights as they are.
PRODUCTS_ALONE = tuple(
    name for name, kind in BUILT_IN.items() if kind.hidden and not kind.parameters
)

# Those whose products are no program's: written by hand, in native/cells.hpp.
BY_HAND = ("gru_reset_before",)


@functools.cache
def kind_of(kernel: str) -> Kind:
    """What a kernel needs: one of those built in, or the text of a program.

    Raises:
        ValueError: neither.
    """
    if kernel in BUILT_IN:
        return BUILT_IN[kernel]
    program = Program.parse(kernel)
    functor = Functor("Own", program)
    return Kind(
        "Own", program.gates, program.states, functor.kept, program.parameters, program.hidden
    )


def source_of(functors: dict[str, Functor], by_hand: tuple[str, ...] = ()) -> str:
    """A header with these functors, in place of native/generated.hpp."""
    names = [functor.name for functor in functors.values()]
    cells = " \\\n  ".join(f"_({name})" for name in (*names, *by_hand))
    parts = []
    for functor in functors.values():
        comment = "\n".join(f"// {line}" for line in str(functor.program).split("\n"))
        parts.append(f"{comment}\n{functor}\n")
    return "\n".join(
        [
            "// Written by seqcells/kernels/source.py from the cells' equations: `make kernels`.",
            "#pragma once",
            '#include "cells.hpp"',
            "",
            f"#define SEQCELLS_CELLS(_) \\\n  {cells}",
            "",
            "namespace SEQCELLS_VARIANT {",
            "",
            *parts,
            "}  // namespace SEQCELLS_VARIANT",
            "",
        ]
    )
