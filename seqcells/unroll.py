"""A recurrence over time: the readable loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seqcells.cells.base import GatedCell, Weights
from seqcells.sequences import readable, valid_steps
from seqcells.state import State, map_state, select_state

Step = Callable[[Tensor, State], tuple[State, Any]]


def unroll(
    cell: GatedCell,
    weights: Weights,
    inputs: Tensor,
    initial_state: State,
    *,
    fresh_state: State = None,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, State]:
    """Run a gated cell's equations over `inputs (T, B, I)`, with these weights.

    The products with all inputs are one product. `lengths (B,)` and `resets (T, B)` are checked
    already, `inputs` are zero past each length, `fresh_state` is what a reset restarts from.

    Returns:
        The outputs `(T, B, H)`, zero past each length, and each row's state at its own end.
    """

    def step(from_input: Tensor, state: State) -> tuple[State, tuple[()]]:
        return cell.step(weights, from_input, state)[0], ()

    from_inputs = F.linear(inputs, weights.weight_ih, weights.bias_ih)
    return loop(
        step,
        lambda state, _: cell.output(state),
        from_inputs,
        initial_state,
        fresh_state=fresh_state,
        lengths=lengths,
        resets=resets,
        reverse=reverse,
    )


def loop(
    step: Step,
    keep: Callable[[State, Any], Any],
    inputs: Tensor,
    state: State,
    *,
    fresh_state: State = None,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Any, State]:
    """Run `step(input, state) -> (state, gates)` over the first dimension of `inputs`.

    A state of None stands for what `step` makes of it: `state` for a sequence that starts so,
    `fresh_state` for a reset that does. Rows of length zero then end with zeros.

    Returns:
        What `keep(state, gates)` picks, stacked over time and zero past each length, and the
        state of each row at its own end.
    """
    steps = len(inputs)
    valid = None if lengths is None else valid_steps(lengths, steps)
    full = _full_steps(lengths, steps)
    if state is None and reverse and lengths is not None:
        starts = torch.arange(1, steps + 1, device=lengths.device).unsqueeze(1) == lengths
        resets = starts if resets is None else resets | starts
    kept = [None] * steps
    for t, input, reset in _in_order(inputs, resets, reverse):
        new, gates = _restart(step, input, state, fresh_state, reset)
        kept[t] = keep(new, gates)
        if t >= full:
            before = map_state(torch.zeros_like, new) if state is None else state
            new = select_state(valid[t], new, before)
            kept[t] = select_state(valid[t], kept[t], map_state(torch.zeros_like, kept[t]))
        state = new
    if not steps:
        return map_state(lambda part: part.new_zeros(0, *part.shape), keep(state, ())), state
    return map_state(lambda *parts: torch.stack(parts), *kept), state


def _full_steps(lengths: Tensor | None, steps: int) -> int:
    """How many first steps are known to be valid in every row."""
    if lengths is None:
        return steps
    return int(lengths.min()) if readable(lengths) and len(lengths) else 0


def _in_order(
    inputs: Tensor, resets: Tensor | None, reverse: bool
) -> Iterator[tuple[int, Tensor, Tensor | None]]:
    """Each step's number, input and reset mask (None where known to be empty), as they run."""
    masks = [None] * len(inputs)
    if resets is not None:
        masks = list(resets.unbind(0))
        if readable(resets):
            masks = [mask if some else None for mask, some in zip(masks, resets.any(1).tolist())]
    order = range(len(inputs))
    rows = inputs.unbind(0)
    for t in reversed(order) if reverse else order:
        yield t, rows[t], masks[t]


def _restart(
    step: Step, input: Tensor, state: State, fresh_state: State, reset: Tensor | None
) -> tuple[State, Any]:
    """One step, from `fresh_state` in the rows that `reset (B,)` names."""
    if reset is None or state is None:
        return step(input, state)
    if fresh_state is None:
        return select_state(reset, step(input, None), step(input, state))
    return step(input, select_state(reset, fresh_state, state))
