"""Any cell over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from seqcells.cells.base import GatedCell
from seqcells.cells.checks import check_cell
from seqcells.modifiers.base import (
    Modifier,
    call_cell,
    has_standard_forward,
    innermost,
    resolve_noise,
)
from seqcells.noise import Noise
from seqcells.recurrence.choice import refuse
from seqcells.recurrence.compute import compute
from seqcells.recurrence.loop import loop
from seqcells.recurrence.request import Request
from seqcells.sequences import restore_layout, time_first, zero_padding
from seqcells.state import State, conform_state, first_tensor, map_state


class Recurrent(nn.Module):
    """Run a cell over a sequence: `Recurrent(cell)(inputs) -> (outputs, final_state)`.

    A cell is whatever maps `(input, state)` to the next state and takes None for the first:
    seqcells' own, `torch.nn`'s, one that you write in ten lines (see `Cell`).

    Args:
        cell: the cell.
        batch_first: inputs, outputs and resets are `(B, T, ...)` instead of `(T, B, ...)`.
        reverse: run from the last step to the first; outputs stay at their steps.

    Raises:
        TypeError: something that is no cell.
    """

    def __init__(
        self,
        cell: Callable[..., State],
        *,
        batch_first: bool = False,
        reverse: bool = False,
    ) -> None:
        super().__init__()
        self.cell = check_cell(cell)
        self.batch_first = batch_first
        self.reverse = reverse

    def forward(
        self,
        inputs: Tensor,
        initial_state: State = None,
        lengths: Tensor | Sequence[int] | None = None,
        resets: Tensor | None = None,
        noise: Noise | None = None,
        all_states: bool = False,
    ) -> tuple[Any, State]:
        """Run the cell over all steps.

        Args:
            inputs: `(T, B, I)`, with `batch_first` `(B, T, I)`, without a batch `(T, I)`; other
                shapes of features as the cell takes them.
            initial_state: the state to start from; else the cell's own initial state.
            lengths: `(B,)` whole numbers up to T, in any order, zeros allowed. Past its length a
                row's state stays as it was and its outputs are zero; in reverse a row starts at
                its own end.
            resets: bool, shaped as the input's first two dimensions; where true, the state starts
                anew from the cell's initial state before that step in the direction of running.
            noise: what the sequence runs with in place of what the cell's modifiers would draw:
                see `Recurrent.noise`.
            all_states: give every step's state in place of the outputs, as the LSTM's cell states.

        A cell that a kernel is made for computes in float32 under autocast too, and its results
        have the type of the initial state; without one, the inputs' type.

        Returns:
            outputs: `(T, B, H)`, laid out as the inputs; with `all_states` the state's form with
                each part so, zero past each length.
            final_state: each row's state after its last step. A cell without `initial_state`
                leaves zeros where it took no step.

        Raises:
            TypeError: a state, lengths, resets or noise of the wrong kind.
            ValueError: a shape, size, dtype or length that does not fit; lengths without a batch.
        """
        request, layout = prepare(
            self, inputs, initial_state, lengths, resets, noise, all_states=all_states
        )
        found = compute(request) if request.weights is not None else _run_by_calling(request)
        return layout.restore(*found)

    def noise(
        self, inputs: Tensor, initial_state: State = None, before: Noise | None = None
    ) -> Noise:
        """What the cell's modifiers draw for these inputs, to be passed in with them.

        A call draws for itself what it is not given. To know the masks, to run with the same
        twice, or to carry those of a sequence through truncated backpropagation, draw them first::

            state = noise = None
            for chunk in inputs.split(35):
                noise = recurrent.noise(chunk, state, before=noise)
                outputs, state = recurrent(chunk, state, noise=noise)
                loss(outputs).backward()
                state = detach_state(state)

        `before` is the noise of the steps before these: from it comes what holds for a whole
        sequence, as a mask of `VariationalDropout`; what is drawn at every step is drawn.

        Raises:
            TypeError, ValueError: as a call.
        """
        batched = not isinstance(inputs, Tensor) or inputs.dim() > 2
        inputs, *_ = time_first(inputs, None, None, self.batch_first)
        state, _ = _initial_and_reset_state(self.cell, inputs, initial_state, batched)
        drawn = resolve_noise(self.cell, None, state, inputs.shape[0]) or Noise()
        return drawn if before is None else before.carry_over(drawn, state)

    def extra_repr(self) -> str:
        cell = [] if isinstance(self.cell, nn.Module) else [f"cell={self.cell!r}"]
        flags = [f"{name}=True" for name in ("batch_first", "reverse") if getattr(self, name)]
        return ", ".join(cell + flags)


class Layout(NamedTuple):
    """How the caller lays sequences out."""

    batched: bool
    batch_first: bool

    def restore(self, outputs: Any, final_state: State) -> tuple[Any, State]:
        """Return outputs `(T, B, ...)` and states `(B, ...)` in the caller's layout."""
        if self.batched and not self.batch_first:
            return outputs, final_state
        if not self.batched:
            final_state = map_state(lambda part: part.squeeze(0), final_state)
        outputs = map_state(
            lambda part: restore_layout(part, self.batched, self.batch_first), outputs
        )
        return outputs, final_state


def prepare(
    recurrent: Recurrent,
    inputs: Tensor,
    initial_state: State,
    lengths: Tensor | Sequence[int] | None,
    resets: Tensor | None,
    noise: Noise | None,
    *,
    all_states: bool = False,
) -> tuple[Request, Layout]:
    """Validate a call's arguments. A cell that is called at every step gets no weights."""
    cell: Any = recurrent._modules.get("cell")
    if cell is None:  # no module
        cell = recurrent.cell
    batched = not isinstance(inputs, Tensor) or inputs.dim() > 2
    inputs, lengths, resets = time_first(inputs, lengths, resets, recurrent.batch_first)
    gated = innermost(cell)
    if isinstance(gated, GatedCell):
        gated.check_input(inputs)
    state, fresh = _initial_and_reset_state(cell, inputs, initial_state, batched)
    noise = resolve_noise(cell, noise, state, inputs.shape[0])
    steps = lengths, None, resets, recurrent.reverse, all_states
    weights = None
    if is_fusible(cell):
        cell, weights = gated, cell.weights()
    if resets is None:
        fresh = None
    request = Request(cell, weights, inputs, state, fresh, noise, *steps)
    return request, Layout(batched, recurrent.batch_first)


def _initial_and_reset_state(
    cell: Any, inputs: Tensor, initial_state: State, batched: bool
) -> tuple[State, State]:
    """The state to start from, and the one a reset restarts from: None asks the cell itself."""
    steps, batch_size = inputs.shape[:2]
    if not batched and initial_state is not None:
        initial_state = map_state(lambda part: part.unsqueeze(0), initial_state)
    make = getattr(cell, "initial_state", None)
    if make is not None:
        dtype = inputs.dtype if inputs.is_floating_point() else None
        fresh = make(batch_size, device=inputs.device, dtype=dtype)
        return (fresh if initial_state is None else conform_state(initial_state, fresh)), fresh
    if initial_state is None and not steps:
        with torch.no_grad():
            probed = cell(inputs.new_zeros(inputs.shape[1:]), None)
        return map_state(torch.zeros_like, probed), None
    return initial_state, None


def _run_by_calling(request: Request) -> tuple[State, State]:
    cell, lengths = request.cell, request.lengths
    refuse(f"{type(cell).__name__} is a cell that is called at every step")
    output = getattr(cell, "output", first_tensor)
    return loop(
        lambda input, state, noise: (call_cell(cell, input, state, noise), ()),
        lambda state, _: state if request.all_states else output(state),
        request.inputs if lengths is None else zero_padding(request.inputs, lengths),
        request.state,
        fresh_state=request.fresh,
        lengths=lengths,
        resets=request.resets,
        reverse=request.reverse,
        noise=request.noise,
    )


def is_fusible(cell: Any) -> bool:
    """Whether the cell is no more than its equations: a gated cell that is called as it stands.

    A forward of its own or a hook, on it or a modifier around it, has to see every step, so the
    cell is called at every step.
    """
    if isinstance(cell, nn.Module) and (
        cell._forward_hooks
        or cell._forward_pre_hooks
        or cell._backward_hooks
        or cell._backward_pre_hooks
    ):
        return False
    if not isinstance(cell, Modifier):
        return has_standard_forward(cell)
    own = type(cell).forward is Modifier.forward and "forward" not in vars(cell)
    return own and is_fusible(cell.cell)
