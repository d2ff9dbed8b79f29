"""Looking inside a recurrence: every state and every gate, by name, at every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from seqcells.cells.base import GatedCell
from seqcells.loop import evaluated_once, loop
from seqcells.modified import Modifier, innermost
from seqcells.noise import Noise, noisy_step, settle
from seqcells.recurrent import Recurrent, run, runs_unrolled
from seqcells.sequences import zero_padding
from seqcells.state import State


class Trace(NamedTuple):
    """What a recurrence computed, laid out as its input, zero past each length.

    Attributes:
        outputs: `(T, B, H)`.
        final_state: each row's state at its own end.
        states: the state after each step: the cell's own form, each part `(T, B, ...)`.
        gates: name to `(T, B, H)`.
    """

    outputs: Tensor
    final_state: State
    states: State
    gates: dict[str, Tensor]


def trace(
    recurrent: Recurrent,
    inputs: Tensor,
    initial_state: State = None,
    lengths: Tensor | Sequence[int] | None = None,
    resets: Tensor | None = None,
    noise: Noise | None = None,
) -> Trace:
    """Run `recurrent` and keep everything: `trace(...).gates["forget"]` is `(T, B, H)`.

    The arguments are those of `Recurrent`'s call. The equations are the cell's own, and autograd
    follows as it does there. What is shown of a modified cell is as its noise made it, but for the
    gates: they stand as `activate` computed them, a candidate before its dropout.

    Raises:
        TypeError: no `Recurrent`, or one whose cell names no gates.
        ValueError: as `Recurrent`; an input of no steps.
    """
    if not isinstance(recurrent, Recurrent):
        raise TypeError(f"recurrent: expected a Recurrent, got {type(recurrent).__name__}")
    cell = recurrent.cell
    if not runs_unrolled(cell):
        raise TypeError(
            f"recurrent: expected a GatedCell without hooks or a forward of its own, "
            f"got {type(innermost(cell)).__name__}"
        )
    (outputs, states, gates), final_state = run(
        cell,
        _traced,
        inputs,
        initial_state,
        lengths,
        resets,
        noise,
        batch_first=recurrent.batch_first,
        reverse=recurrent.reverse,
    )
    return Trace(outputs, final_state, states, dict(zip(cell.gates, gates)))


def _traced(
    cell: GatedCell | Modifier,
    inputs: Tensor,
    state: State,
    *,
    lengths: Tensor | None,
    noise: Noise | None,
    **options: Any,
) -> tuple[tuple[Tensor, State, tuple[Tensor, ...]], State]:
    if not len(inputs):
        raise ValueError("inputs: expected at least one step, got none")
    if lengths is not None:
        inputs = zero_padding(inputs, lengths)
    weights, noise = settle(cell.weights(), noise)
    cell = innermost(cell)
    from_inputs = cell.from_inputs(weights, inputs)
    with evaluated_once(cell):
        return loop(
            lambda from_input, state, noise: noisy_step(cell, weights, from_input, state, noise),
            lambda state, gates: (cell.output(state), state, gates),
            from_inputs,
            state,
            lengths=lengths,
            noise=noise,
            **options,
        )
