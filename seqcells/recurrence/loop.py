"""The readable loop over time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from seqcells.noise import Noise
from seqcells.sequences import is_host_readable, valid_steps
from seqcells.state import State, map_state, select_state

Step = Callable[[Tensor, State, "Noise | None"], tuple[State, Any]]


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
    noise: Noise | None = None,
) -> tuple[Any, State]:
    """Run `step(input, state, noise) -> (state, gates)` over the first dimension of `inputs`.

    A state of None stands for what `step` makes of it: `state` for a sequence that starts so,
    `fresh_state` for a reset that does. Rows of length zero then end with zeros. Each step is
    given the `noise` of that step.

    Returns:
        What `keep(state, gates)` picks, stacked over time and zero past each length, and the
        state of each row at its own end.
    """
    steps = len(inputs)
    if state is None and reverse and lengths is not None:
        starts = torch.arange(1, steps + 1, device=lengths.device).unsqueeze(1) == lengths
        resets = starts if resets is None else resets | starts
    rows, masks, kept = inputs.unbind(0), step_masks(lengths, resets, steps), [None] * steps
    for t in reversed(range(steps)) if reverse else range(steps):
        reset, valid = masks[t]
        at = None if noise is None else noise.at(t, state)
        new, gates = _step_with_reset(step, rows[t], state, fresh_state, reset, at)
        kept[t] = keep(new, gates)
        if valid is not None:
            before = map_state(torch.zeros_like, new) if state is None else state
            new = select_state(valid, new, before)
            kept[t] = select_state(valid, kept[t], map_state(torch.zeros_like, kept[t]))
        state = new
    if not steps:
        return map_state(lambda part: part.new_zeros(0, *part.shape), keep(state, ())), state
    return map_state(lambda *parts: torch.stack(parts), *kept), state


def cached_parametrizations(cell: Any) -> AbstractContextManager[None]:
    """Within it a cell's parametrizations are evaluated once, however many steps read them."""
    if torch.compiler.is_compiling() or not parametrize.is_parametrized(cell):
        return nullcontext()
    return parametrize.cached()


def step_masks(
    lengths: Tensor | None, resets: Tensor | None, steps: int
) -> list[tuple[Tensor | None, Tensor | None]]:
    """For each step the rows `(B,)` that restart before it, and those that take it.

    None stands for no row and for all rows, where that is known.
    """
    restarts: list[Tensor | None] = [None] * steps
    valid: list[Tensor | None] = [None] * steps
    if resets is not None:
        restarts = list(resets.unbind(0))
        if is_host_readable(resets):
            some = resets.any(1).tolist()
            restarts = [mask if found else None for mask, found in zip(restarts, some)]
    if lengths is not None:
        full = int(lengths.min()) if is_host_readable(lengths) and len(lengths) else 0
        valid[full:] = valid_steps(lengths, steps)[full:].unbind(0)
    return list(zip(restarts, valid))


def _step_with_reset(
    step: Step,
    input: Tensor,
    state: State,
    fresh_state: State,
    reset: Tensor | None,
    noise: Noise | None,
) -> tuple[State, Any]:
    """One step, from `fresh_state` in the rows that `reset (B,)` names."""
    if reset is None or state is None:
        return step(input, state, noise)
    if fresh_state is None:
        return select_state(reset, step(input, None, noise), step(input, state, noise))
    return step(input, select_state(reset, fresh_state, state), noise)
