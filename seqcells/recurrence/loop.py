"""The Python loop over time."""

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
    select: Callable[[State, Any], Any],
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

    `state` is the state before the first step, `fresh_state` the state after a reset. If one of
    them is None, `step` is called with a state of None there. With a `state` of None, rows of
    length zero have a final state of zeros. Each step gets the noise of that step.

    Returns:
        The results of `select(state, gates)`, stacked over time and zero beyond each length, and
        the state of each row after its last step.
    """
    steps = len(inputs)
    if state is None and reverse and lengths is not None:
        starts = torch.arange(1, steps + 1, device=lengths.device).unsqueeze(1) == lengths
        resets = starts if resets is None else resets | starts
    rows, masks = inputs.unbind(0), step_masks(lengths, resets, steps)
    selected: list[Any] = [None] * steps
    for t in reversed(range(steps)) if reverse else range(steps):
        reset, valid = masks[t]
        step_noise = None if noise is None else noise.at(t, state)
        new, gates = _step_with_reset(step, rows[t], state, fresh_state, reset, step_noise)
        selected[t] = select(new, gates)
        if valid is not None:
            before = map_state(torch.zeros_like, new) if state is None else state
            new = select_state(valid, new, before)
            zeros = map_state(torch.zeros_like, selected[t])
            selected[t] = select_state(valid, selected[t], zeros)
        state = new
    if not steps:
        return map_state(lambda part: part.new_zeros(0, *part.shape), select(state, ())), state
    return map_state(lambda *parts: torch.stack(parts), *selected), state


def cached_parametrizations(cell: Any) -> AbstractContextManager[None]:
    """Return a context manager in which each parametrization of a cell is evaluated only once."""
    if torch.compiler.is_compiling() or not parametrize.is_parametrized(cell):
        return nullcontext()
    return parametrize.cached()


def step_masks(
    lengths: Tensor | None, resets: Tensor | None, steps: int
) -> list[tuple[Tensor | None, Tensor | None]]:
    """Return per step a mask `(B,)` of the rows to reset before it, and of the valid rows.

    If the values are known on the host, None replaces a reset mask of no rows and a valid mask of
    all rows.
    """
    restarts: list[Tensor | None] = [None] * steps
    valid: list[Tensor | None] = [None] * steps
    if resets is not None:
        restarts = list(resets.unbind(0))
        if is_host_readable(resets):
            any_row = resets.any(1).tolist()
            restarts = [mask if any_reset else None for mask, any_reset in zip(restarts, any_row)]
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
    """Compute one step, from `fresh_state` in the rows where `reset (B,)` is true."""
    if reset is None or state is None:
        return step(input, state, noise)
    if fresh_state is None:
        restarted, continued = step(input, None, noise), step(input, state, noise)
        new, gates = (select_state(reset, *pair) for pair in zip(restarted, continued))
        return new, gates
    return step(input, select_state(reset, fresh_state, state), noise)
