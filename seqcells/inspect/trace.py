"""States and named gates of a recurrence at every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from seqcells.layers import GRU, LSTM, RNN
from seqcells.modifiers.base import innermost
from seqcells.noise import Noise, apply_weight_factor
from seqcells.recurrence.reference import collect_steps
from seqcells.recurrence.request import Request, check_placement
from seqcells.recurrent import Recurrent, is_fusible, prepare
from seqcells.sequences import restore_layout
from seqcells.state import State, map_state


class Trace(NamedTuple):
    """States and gates of a recurrence, in the layout of its input, zero beyond each length.

    Attributes:
        outputs: `(T, B, H)`.
        final_state: each row's state after its last step.
        states: the state after each step, in the cell's structure, with tensors `(T, B, ...)`.
        gates: `(T, B, H)` by name.
    """

    outputs: Tensor
    final_state: State
    states: State
    gates: dict[str, Tensor]


def trace(
    recurrent: Recurrent | RNN | GRU | LSTM,
    inputs: Tensor,
    initial_state: State = None,
    lengths: Tensor | Sequence[int] | None = None,
    resets: Tensor | None = None,
    noise: Noise | None = None,
) -> Trace | dict[str, Trace]:
    """Run `recurrent` and return the states and gates of all steps.

    For example, `trace(...).gates["forget"]` is `(T, B, H)`. The arguments are those of a call. The
    readable loop runs the equations, and the results are differentiable. States of a modified cell
    include its noise. Gates are those that `activate` returns, a candidate before its dropout.

    Returns:
        A `Trace`. For layers, a dict with one for each layer and direction, by torch's names:
        `"l0"`, `"l0_reverse"`, `"l1"`, ...

    Raises:
        TypeError: `recurrent` is no `Recurrent` or layer of seqcells, or its cell names no gates.
        ValueError: as a call; an input without steps.
    """
    if isinstance(recurrent, RNN | GRU | LSTM):
        if noise is not None:
            raise TypeError("noise: expected None, since layers have no modifiers")
        return _trace_layers(recurrent, inputs, initial_state, lengths, resets)
    if not isinstance(recurrent, Recurrent):
        raise TypeError(
            f"recurrent: expected a Recurrent or layers of seqcells, got {type(recurrent).__name__}"
        )
    cell = recurrent.cell
    if not is_fusible(cell):
        raise TypeError(
            f"recurrent: expected a GatedCell without hooks or a forward of its own, "
            f"got {type(innermost(cell)).__name__}"
        )
    request, layout = prepare(recurrent, inputs, initial_state, lengths, resets, noise)
    (outputs, states, gates), final_state = layout.restore(*_traced(request))
    return Trace(outputs, final_state, states, dict(zip(cell.gates, gates)))


def _trace_layers(
    layers: RNN | GRU | LSTM, inputs: Tensor, state: State, lengths: Any, resets: Tensor | None
) -> dict[str, Trace]:
    """Run the layers as a call does and record each recurrence."""
    if not isinstance(inputs, Tensor):
        raise TypeError(f"inputs: expected a padded tensor, got {type(inputs).__name__}")
    sequence, batched = layers._prepare(inputs, state, lengths, resets), inputs.dim() == 3
    traces: dict[str, Trace] = {}
    names = (names[0].removeprefix("weight_ih_") for names in layers._all_weights)

    def record(request: Request) -> tuple[Tensor, State]:
        recorded, final = _traced(request)
        after = final if batched else map_state(lambda part: part.squeeze(0), final)
        shown = map_state(lambda part: restore_layout(part, batched, layers.batch_first), recorded)
        gates = dict(zip(request.cell.gates, shown[2]))
        traces[next(names)] = Trace(shown[0], after, shown[1], gates)
        return recorded[0], final

    layers._run(*sequence, compute=record)
    return traces


def _traced(request: Request) -> tuple[tuple[Tensor, State, tuple[Tensor, ...]], State]:
    """Return outputs, states and gates of all steps, and the final state."""
    if not len(request.inputs):
        raise ValueError("inputs: expected at least one step, got none")
    check_placement(request)
    weights, noise = apply_weight_factor(request.weights, request.noise)
    request = request._replace(weights=weights, noise=noise)
    return collect_steps(request, lambda state, gates: (request.cell.output(state), state, gates))
