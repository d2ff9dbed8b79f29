"""The catalogue of kernels: names, sizes and properties."""

from __future__ import annotations

import functools
from typing import NamedTuple

from seqcells.compatibility import assume_constant
from seqcells.equations.built_in import PARAMETERS, PROGRAMS
from seqcells.equations.program import CACHE_SIZE, Program
from seqcells.equations.step import step_of


class Kernel(NamedTuple):
    """A kernel: its equations and its sizes.

    Attributes:
        name: name of a built-in kernel, or the text of a program.
        backend: backend that an operator's argument selects; "" for the device's default.
        number: number of a built-in kernel in native code; None for other kernels.
        saved: values saved per unit and step for the backward pass, without those of zoneout
            (`zoneout_saved`).
        parameters: numbers per unit that the step reads outside the products.
        inputs: number of the gates with a product with the input, the first ones.
        hidden: whether there is a product with the hidden state.
        reads_new_hidden: whether the backward pass reads the hidden state after the step.
        takes_drop: whether the step reads the factor `drop`.
        whole_rows: whether the step computes means over whole rows.
        rows: values saved per row and step.
        precision: "bfloat16" if the products of float32 numbers may round them to bfloat16.
    """

    name: str
    backend: str
    number: int | None
    gates: int
    states: int
    saved: int
    parameters: int = 0
    inputs: int = 0
    hidden: bool = True
    reads_new_hidden: bool = False
    takes_drop: bool = False
    whole_rows: bool = False
    rows: int = 0
    precision: str = ""

    def argument(self) -> str:
        """Return the argument `kernel` of the operators of `torch.ops.seqcells`."""
        return " ".join(part for part in (self.backend, self.precision, self.name) if part)

    @property
    def weights_unchanged(self) -> bool:
        """Whether the kernel uses the cell's weights without conversion."""
        return self.name in WEIGHTS_UNCHANGED

    @property
    def compiled(self) -> bool:
        """Whether native code is compiled for the program, instead of interpreting it."""
        return self.name.startswith(COMPILED)

    @property
    def program(self) -> Program:
        """The program of the kernel."""
        return program_of(self.name)

    def interpreted(self) -> Kernel:
        """Return the same kernel, interpreted instead of compiled."""
        return kernel_of(self.name.removeprefix(COMPILED))

    def zoneout_saved(self) -> int:
        """Return the number of additional values saved per unit and step with zoneout.

        These are the hidden state before zoneout, if the backward pass reads it, and the other
        parts of the state after zoneout.
        """
        return self.reads_new_hidden + self.states - 1


# The built-in kernels in the order of SEQCELLS_CELLS in native/generated.hpp.
NUMBERS = {name: number for number, name in enumerate(PROGRAMS)}

# Built-in kernels that use the cell's weights without conversion.
WEIGHTS_UNCHANGED = tuple(
    name for name in NUMBERS if name not in PARAMETERS and Program.parse(PROGRAMS[name]).hidden
)

# Prefix of a program's text that selects compilation instead of interpretation.
COMPILED = "compiled "

# Prefixes of a kernel's name that select a backend other than the device's default.
BACKEND_PREFIXES = ("triton", "cudnn")

# Prefixes that select the precision of products, after the backend.
PRECISIONS = ("bfloat16",)

# Kernel names in models exported by version 0.1.0.
RENAMED = {
    "lstm_peephole": "peephole_lstm",
    "lstm_coupled": "coupled_lstm",
    "lstm_light": "light_lstm",
    "lstm_layer_norm": "layer_norm_lstm",
    "gru_layer_norm": "layer_norm_gru",
}


def program_of(name: str) -> Program:
    """Return the program of a built-in kernel, or with this text.

    Raises:
        ValueError: `name` is neither a built-in kernel nor the text of a program.
    """
    return Program.parse(PROGRAMS.get(name, name.removeprefix(COMPILED)))


@assume_constant
def kernel_of(argument: str) -> Kernel:
    """Return the kernel of an operator's argument.

    Args:
        argument: the name of a built-in kernel or the text of a program, optionally after the names
            of a backend and a precision, each with a space.

    Raises:
        ValueError: `argument` is neither.
    """
    return _kernel_of(argument)


@functools.lru_cache(maxsize=CACHE_SIZE)
def _kernel_of(argument: str) -> Kernel:
    backend, _, name = argument.partition(" ")
    if backend not in BACKEND_PREFIXES:
        backend, name = "", argument
    precision, _, rest = name.partition(" ")
    if precision in PRECISIONS:
        return _kernel_of(f"{backend} {rest}".lstrip())._replace(precision=precision)
    name = RENAMED.get(name, name)
    number = NUMBERS.get(name)
    program = program_of(name)
    step = step_of(program)
    return Kernel(
        name,
        backend,
        number,
        program.gates,
        program.states,
        step.saved,
        program.parameters,
        program.inputs,
        program.hidden,
        step.reads_new_hidden,
        program.takes_drop,
        program.whole_rows,
        step.rows,
    )
