"""`Recurrent`, which runs any cell over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from seqcells.cells.base import GatedCell
from seqcells.cells.checks import check_cell
from seqcells.modifiers.base import (
    TORCH_CELLS,
    Modifier,
    call_cell,
    has_standard_forward,
    innermost,
    resolve_noise,
    state_factory,
)
from seqcells.noise import Noise
from seqcells.recurrence.choice import refuse
from seqcells.recurrence.compute import compute
from seqcells.recurrence.loop import loop
from seqcells.recurrence.request import Request
from seqcells.sequences import restore_layout, time_first, zero_padding
from seqcells.state import State, conform_state, first_tensor, map_state
from seqcells.validation import (
    check_called,
    check_input,
    check_output,
    is_valid_input,
    sequence_layout,
)


class Recurrent(nn.Module):
    """Run a cell over a sequence: `Recurrent(cell)(inputs) -> (outputs, final_state)`.

    A cell is any callable that maps `(input, state)` to the next state and accepts a state of None
    at the first step: a cell of seqcells or `torch.nn`, or a custom one (see `Cell`).

    Args:
        cell: the cell.
        batch_first: inputs, outputs and resets are `(B, T, ...)` instead of `(T, B, ...)`.
        reverse: run from the last step to the first. Outputs keep the order of the inputs.

    Raises:
        TypeError: `cell` is not a cell.
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
            inputs: `(T, B, I)`, with `batch_first` `(B, T, I)`, unbatched `(T, I)`. A cell may
                accept further feature dimensions.
            initial_state: the state before the first step, by default the cell's initial state.
            lengths: `(B,)` integers from 0 to T, in any order. Beyond its length, the state of a
                row is unchanged and its outputs are zero. With `reverse`, a row starts at its end.
            resets: bool, with the shape of the inputs without features. Where true, the state is
                set to the cell's initial state before that step, in the direction of the run.
            noise: replaces the noise that the cell's modifiers would draw: see `Recurrent.noise`.
            all_states: return the state of every step in place of the outputs, for example to get
                the cell states of an LSTM.

        Under autocast, kernels multiply in autocast's dtype, except for float16 on the CPU. Sums,
        states and gates are float32, and so is the readable loop of cells with a kernel. Results
        have the dtype of the initial state, or else that of the inputs.

        Returns:
            outputs: `(T, B, H)`, in the layout of the inputs and zero beyond each length. With
                `all_states`, a structure like the state with such tensors.
            final_state: each row's state after its last step. For rows of length zero it is the
                initial state, or zeros if the cell has no `initial_state`.

        Raises:
            TypeError: inputs, a state, lengths, resets or noise of the wrong type, or a cell that
                returns a state of another structure.
            ValueError: a wrong shape, size, dtype, device or length, lengths for unbatched inputs,
                or a cell that returns a state of another shape.
        """
        request, layout = prepare(
            self, inputs, initial_state, lengths, resets, noise, all_states=all_states
        )
        results = compute(request) if request.weights is not None else _run_by_calling(request)
        return layout.restore(*results)

    def noise(
        self, inputs: Tensor, initial_state: State = None, before: Noise | None = None
    ) -> Noise:
        """Draw the noise of the cell's modifiers for these inputs.

        A call without `noise` draws its own. Draw it first to inspect the masks, to run twice with
        the same masks, or to keep the masks of a sequence in truncated backpropagation::

            state = noise = None
            for chunk in inputs.split(35):
                noise = recurrent.noise(chunk, state, before=noise)
                outputs, state = recurrent(chunk, state, noise=noise)
                loss(outputs).backward()
                state = detach_state(state)

        `before` is the noise of the preceding steps. Per-sequence tensors, such as the mask of
        `VariationalDropout`, are taken from it; per-step tensors are drawn.

        Raises:
            TypeError, ValueError: those of a call.
        """
        check_sequence(self.cell, inputs, self.batch_first)
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
    """Layout of the caller's sequences."""

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
    """Validate a call's arguments. The request has no weights if the cell is called per step."""
    cell: Any = recurrent._modules.get("cell")
    if cell is None:  # not a module
        cell = recurrent.cell
    gated = check_sequence(cell, inputs, recurrent.batch_first)
    batched = not isinstance(inputs, Tensor) or inputs.dim() > 2
    inputs, lengths, resets = time_first(inputs, lengths, resets, recurrent.batch_first)
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


def check_sequence(cell: Any, inputs: Any, batch_first: bool) -> Any:
    """Validate the inputs of a cell whose weights are known; return the innermost cell."""
    cell = innermost(cell)
    gated = isinstance(cell, GatedCell)
    if gated and not has_standard_forward(cell):
        cell.check_input(inputs)
    elif gated or type(cell) in TORCH_CELLS:
        size, dtype = cell.input_size, (cell._any_parameter() if gated else cell.weight_ih).dtype
        if not is_valid_input(inputs, size, dtype, (2, 3)):
            check_input(inputs, size, dtype, (2, 3), sequence_layout(size, batch_first), "inputs")
    return cell


def _initial_and_reset_state(
    cell: Any, inputs: Tensor, initial_state: State, batched: bool
) -> tuple[State, State]:
    """Return the state before the first step and the state after a reset.

    None stands for calling the cell with a state of None.
    """
    steps, batch_size = inputs.shape[:2]
    make = getattr(cell, "initial_state", None)
    known = make
    if known is None and initial_state is not None and type(cell) in TORCH_CELLS:
        known = state_factory(cell)  # for validation
    fresh = None
    if known is not None:
        dtype = inputs.dtype if inputs.is_floating_point() else None
        fresh = known(batch_size, device=inputs.device, dtype=dtype)
    if initial_state is not None:
        if fresh is not None:
            shown = fresh if batched else map_state(lambda part: part.squeeze(0), fresh)
            initial_state = conform_state(initial_state, shown)
        if not batched:
            initial_state = map_state(lambda part: part.unsqueeze(0), initial_state)
    if make is not None:
        return (fresh if initial_state is None else initial_state), fresh
    if initial_state is None and not steps:
        with torch.no_grad():
            example = cell(inputs.new_zeros(inputs.shape[1:]), None)
        return map_state(torch.zeros_like, check_called(cell, example, None)), None
    return initial_state, None


def _run_by_calling(request: Request) -> tuple[State, State]:
    cell, lengths = request.cell, request.lengths
    refuse(f"{type(cell).__name__} is a cell that is called at every step")
    output, rows = getattr(cell, "output", first_tensor), request.inputs.shape[1]
    first: Tensor | None = None

    def step(input: Tensor, state: State, noise: Noise | None) -> tuple[State, tuple[()]]:
        return check_called(cell, call_cell(cell, input, state, noise), state), ()

    def select(state: State, _: Any) -> State:
        nonlocal first
        shown = first_tensor(state) if request.all_states else output(state)
        check_output(cell, shown, rows, first)
        if first is None:
            first = shown
        return state if request.all_states else shown

    return loop(
        step,
        select,
        request.inputs if lengths is None else zero_padding(request.inputs, lengths),
        request.state,
        fresh_state=request.fresh,
        lengths=lengths,
        resets=request.resets,
        reverse=request.reverse,
        noise=request.noise,
    )


def is_fusible(cell: Any) -> bool:
    """Whether a sequence of the cell can be computed without calling the cell at every step.

    This needs a gated cell. An overridden `forward` or a hook, on the cell or a modifier around
    it, has to run at every step.
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
    standard = type(cell).forward is Modifier.forward and "forward" not in cell.__dict__
    return standard and is_fusible(cell.cell)
