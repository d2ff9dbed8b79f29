"""Record a cell's `activate` as a `Program`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from seqcells.equations.program import MOST_STAGES, Program, UntraceableError, Writer
from seqcells.equations.recorder import Gates, Recorder


def trace_activate(
    activate: Callable[..., Any],
    gates: Gates,
    hidden_size: int,
    state: Sequence[Tensor],
    parameters: dict[str, Tensor],
    drop: bool,
) -> tuple[Program, list[str]]:
    """Return the program of an `activate`, and the names of the parameters that it reads.

    Args:
        activate: called as `activate(parameters, from_input, from_hidden, state, *drop)`, with
            `multiply=` if there are late gates; returns the parts of the next state.
        state: parts of the state, each `(B, H)`.
        parameters: parameters that `activate` may read, by name. Those that it reads must be
            vectors of one or more numbers per unit.
        drop: whether `activate` takes a noise factor after the state.

    Raises:
        UntraceableError: an unsupported operator, or a tensor whose shape is not that of gates.
    """
    hidden = gates.hidden
    names = [_names("x", gates.inputs), *([_names("h", gates.early)] if hidden else [])]
    names += [[f"s{n}"] for n in range(len(state))] + [["d0"]] * drop

    def record(numbered: Sequence[str], rows: int) -> tuple[Program, list[str]]:
        """Return the program for a number of rows, and the parameters read.

        The parameters in `numbered` are p0, p1, ... in the program.
        """
        zeros = state[0].new_zeros
        inputs = [zeros(rows, gates.inputs * hidden_size)]
        inputs += [zeros(rows, gates.early * hidden_size)] if hidden else []
        inputs += [zeros(rows, hidden_size) for _ in state]
        inputs += [state[0].new_ones(rows, hidden_size)] if drop else []
        recorder = Recorder(Writer(), hidden_size, list(zip(inputs, names)))
        late = {"multiply": partial(recorder.multiply, gates)} if gates.late else {}
        stand_ins = {name: recorder.parameter(name, value) for name, value in parameters.items()}
        recorder.number(numbered)
        first = 2 if hidden else 1
        before = inputs[first : first + len(state)]
        from_hidden = inputs[1] if hidden else None
        rest = inputs[first + len(state) :]
        try:
            with torch.enable_grad(), recorder:
                new = activate(stand_ins, inputs[0], from_hidden, before, *rest, **late)
            results = [recorder.names_of(part) for part in new]
        except UntraceableError:
            raise
        except Exception as error:
            raise UntraceableError(f"activate cannot be traced: {error}") from error
        if any(len(names) != 1 for names in results) or len(results) != len(state):
            raise UntraceableError(
                "activate: expected it to return a state with the structure of its argument, got "
                f"parts of {[len(names) for names in results]} x H columns"
            )
        read = [name for name in parameters if name in recorder.read]
        count = sum(len(parameters[name]) // hidden_size for name in read)
        returned = [names[0] for names in results]
        sizes = len(gates.names), hidden, len(state), count, gates.inputs
        program = recorder.write.program(*sizes, returned)
        _check_stages(program, gates)
        return program, read

    program, read = record(list(parameters), rows=2)
    if read != list(parameters):  # only parameters that are read are numbered
        program, _ = record(read, rows=2)
    if record(read, rows=3)[0] != program:
        raise UntraceableError("activate depends on the number of rows in the batch")
    return program, read


def _check_stages(program: Program, gates: Gates) -> None:
    used = program.gates - program.early
    if used != len(gates.late):
        raise UntraceableError(
            f"activate: expected it to use a product of each late gate, of {gates.late}, got {used}"
        )
    if len(program.stages) > MOST_STAGES:
        raise UntraceableError(
            f"activate: expected at most {MOST_STAGES} values that `multiply` takes, got "
            f"{len(program.stages)}"
        )


def _names(kind: str, count: int) -> list[str]:
    return [f"{kind}{n}" for n in range(count)]
