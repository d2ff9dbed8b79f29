"""A recurrence over time: the readable loop, and the one place that picks a faster path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqcells.backends import chosen, refuse
from seqcells.cells.base import EQUATIONS, GatedCell, Weights, kernel_of
from seqcells.kernels import cpu, operators
from seqcells.sequences import pack, packed_lengths, readable, unpack, valid_steps, zero_padding
from seqcells.state import (
    State,
    autocast,
    first_tensor,
    flat_state,
    form_state,
    map_state,
    select_state,
)

Step = Callable[[Tensor, State], tuple[State, Any]]

REDUCED = (torch.float16, torch.bfloat16)


def unroll(
    cell: GatedCell,
    weights: Weights,
    inputs: Tensor,
    initial_state: State,
    *,
    fresh_state: State = None,
    lengths: Tensor | None = None,
    batch_sizes: Tensor | None = None,
    resets: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, State]:
    """Run a gated cell's equations over `inputs (T, B, I)`, with these weights.

    `lengths (B,)` and `resets (T, B)` are checked already, `fresh_state` is what a reset restarts
    from; what stands past a length reaches nothing. With `batch_sizes (T,)`, on the CPU, inputs
    and outputs are packed, `(N, I)` and `(N, H)`.

    An operator computes it (`kernels/operators.py`) if a kernel is made for the cell's equations,
    `backend("reference")` is not asked for, and either the call is being compiled or exported, so
    that the graph does not grow with T, or `obstacle` finds none to native code. Else the
    readable loop does, under ordinary autograd.

    Where there is a kernel, autocast changes the arithmetic of neither: it is float32, as it is
    for float16 and bfloat16 by an operator on the CPU. The results have the state's dtype.

    Returns:
        The outputs `(T, B, H)`, zero past each length, and each row's state at its own end.

    Raises:
        RuntimeError: `backend("cpu")` is asked for and cannot run the call.
    """
    kernel = kernel_of(cell)
    steps = (lengths, batch_sizes, resets, reverse)
    if kernel is None:
        refuse(f"{type(cell).__name__} has no kernel made for its equations")
        return reference(cell, weights, inputs, initial_state, fresh_state, *steps)
    if autocast(inputs):
        with torch.autocast(inputs.device.type, enabled=False):
            return _in_float32(cell, weights, inputs, initial_state, fresh_state, *steps)
    fresh_state = None if resets is None else fresh_state
    tensors = [inputs, *flat_state(initial_state), *weights, *flat_state(fresh_state)]
    if not _takes_operator(tensors):
        return reference(cell, weights, inputs, initial_state, fresh_state, *steps)
    if inputs.dtype in REDUCED and inputs.device.type == "cpu":
        return _in_float32(cell, weights, inputs, initial_state, fresh_state, *steps)
    rows = inputs.shape[1] if batch_sizes is None else None
    state, fresh = (_for_rows(parts, rows) for parts in (initial_state, fresh_state))
    outputs, *final = operators.recurrence(kernel, inputs, state, *weights, fresh, *steps)
    return outputs, form_state(initial_state, final)


def reference(
    cell: GatedCell,
    weights: Weights,
    inputs: Tensor,
    initial_state: State,
    fresh_state: State,
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    resets: Tensor | None,
    reverse: bool,
) -> tuple[Tensor, State]:
    """What `unroll` means: the readable loop. The products with all inputs are one product."""

    def step(from_input: Tensor, state: State) -> tuple[State, tuple[()]]:
        return cell.step(weights, from_input, state)[0], ()

    if lengths is not None:
        inputs = zero_padding(inputs, lengths)
    from_inputs = F.linear(inputs, weights.weight_ih, weights.bias_ih)
    if batch_sizes is not None:
        lengths = packed_lengths(batch_sizes).to(inputs.device)
        from_inputs = unpack(from_inputs, lengths, len(batch_sizes))
    outputs, final_state = loop(
        step,
        lambda state, _: cell.output(state),
        from_inputs,
        initial_state,
        fresh_state=fresh_state,
        lengths=lengths,
        resets=resets,
        reverse=reverse,
    )
    return (outputs if batch_sizes is None else pack(outputs, lengths)), final_state


@operators.specify
def _readable(
    kernel: str,
    inputs: Tensor,
    state: list[Tensor],
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    weight_hr: Tensor | None,
    fresh: list[Tensor],
    *steps: Any,
) -> list[Tensor]:
    """`reference` in the operators' terms: the cell by its kernel's name, states as lists."""
    cell = EQUATIONS[kernel]
    form = cell.initial_state(0)
    weights = Weights(weight_ih, weight_hh, bias_ih, bias_hh, weight_hr)
    fresh_state = form_state(form, fresh) if fresh else None
    outputs, final = reference(cell, weights, inputs, form_state(form, state), fresh_state, *steps)
    return [outputs, *flat_state(final)]


def _for_rows(state: State, rows: int | None) -> list[Tensor]:
    """The state's tensors, one that stands for all rows spread out."""
    parts = flat_state(state)
    if rows is None or all(part.dim() == 2 and part.shape[0] == rows for part in parts):
        return parts
    return [part.expand(rows, -1) for part in parts]


def _takes_operator(tensors: list[Tensor | None]) -> bool:
    if chosen() == "reference":
        return False
    compiling = torch.compiler.is_compiling()
    reason = _missing() if compiling else obstacle(tensors)
    refuse(reason)
    return compiling or reason is None


@torch.compiler.assume_constant_result
def _missing() -> str | None:
    return cpu.unavailable()


def obstacle(tensors: list[Tensor | None]) -> str | None:
    """Why native code cannot run a call on these tensors, and what to do; None where it can."""
    if operators.transformed():
        return "a transform of torch.func or forward-mode differentiation has to see every step"
    dtype = tensors[0].dtype
    if dtype not in (*operators.DTYPES, *REDUCED):
        return f"expected float32, float64, float16 or bfloat16, got {dtype}; convert it with .to()"
    for tensor in tensors:
        if tensor is None:
            continue
        if type(tensor) not in (Tensor, nn.Parameter):
            return f"expected plain tensors, got a {type(tensor).__name__}"
        if not tensor.is_cpu:
            return f"expected tensors on the CPU, got {tensor.device}; move them with .to('cpu')"
        if tensor.dtype != dtype:
            return f"expected tensors of one dtype, got {dtype} and {tensor.dtype}"
    return cpu.unavailable()


def _in_float32(
    cell: GatedCell,
    weights: Weights,
    inputs: Tensor,
    initial_state: State,
    fresh_state: State,
    *steps: Any,
) -> tuple[Tensor, State]:
    """`unroll` in float32, or float64 as it came, and its results in the initial state's dtype."""
    lengths, batch_sizes, resets, reverse = steps
    outputs, final_state = unroll(
        cell,
        Weights(*(weight if weight is None else _widened(weight) for weight in weights)),
        _widened(inputs),
        map_state(_widened, initial_state),
        fresh_state=None if resets is None else map_state(_widened, fresh_state),
        lengths=lengths,
        batch_sizes=batch_sizes,
        resets=resets,
        reverse=reverse,
    )
    dtype = first_tensor(initial_state).dtype
    return outputs.to(dtype), map_state(lambda part: part.to(dtype), final_state)


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in REDUCED else tensor


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
