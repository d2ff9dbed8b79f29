"""A recurrence over time: the readable loop, and the one place that picks a faster path."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqcells.cells.base import EQUATIONS, GatedCell, Weights
from seqcells.cells.linear import is_linear
from seqcells.equations.catalogue import PRODUCTS_ALONE, kind_of, split
from seqcells.equations.recording import constant, factor_of, interpreted, kernel_weights
from seqcells.kernels.request import Call
from seqcells.noise import Noise, noisy_coefficients, noisy_step, settle
from seqcells.recurrence import operators
from seqcells.recurrence.backends import chosen, refuse
from seqcells.recurrence.choice import asked_for, autocast_dtype, backend_of, kernel_name
from seqcells.recurrence.loop import evaluated_once, loop
from seqcells.recurrence.scan import linear_recurrence
from seqcells.sequences import pack, packed_lengths, unpack, zero_padding
from seqcells.state import State, autocast, first_tensor, flat_state, form_state, map_state

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
    noise: Noise | None = None,
    all_states: bool = False,
) -> tuple[State, State]:
    """Run a gated cell's equations over `inputs (T, B, I)`, with these weights and this noise.

    `lengths (B,)`, `resets (T, B)` and `noise` are checked already, `fresh_state` is what a reset
    restarts from; what stands past a length reaches nothing. With `batch_sizes (T,)`, on the CPU,
    inputs and outputs are packed, `(N, I)` and `(N, H)`.

    An operator computes it (`kernels/operators.py`) if a kernel is made for the cell's equations,
    or can be made of them (`generate.kernel_for`), and `dispatch.backend_of` finds a backend for
    it. Else the readable loop does, under ordinary autograd.

    On the CPU autocast changes nothing where there is a kernel: the arithmetic is float32, as it is
    for float16 and bfloat16. A GPU's kernels multiply in autocast's own type, and hold sums and
    states in float32. The results have the state's dtype.

    Returns:
        The outputs `(T, B, H)`, or with `all_states` the states, each part so; zero past each
        length. And each row's state at its own end.

    Raises:
        RuntimeError: a backend is asked for by name that cannot run the call.
    """
    weights, noise = settle(weights, noise)
    kernel, reason = kernel_name(cell)
    steps = (lengths, batch_sizes, resets, reverse)
    options = (noise, all_states)
    if kernel is None:
        refuse(reason)
        return reference(cell, weights, inputs, initial_state, fresh_state, *steps, *options)
    if autocast(inputs):
        dtype = autocast_dtype(inputs)
        with torch.autocast(inputs.device.type, enabled=False):
            return _in(dtype, cell, weights, inputs, initial_state, fresh_state, *steps, *options)
    fresh_state = None if resets is None else fresh_state
    factors, left_over = _factors(cell, kernel, noise)
    if left_over:
        refuse(f"the kernel of {type(cell).__name__} takes no noise.{left_over}")
    if left_over or chosen() == "reference":
        return reference(cell, weights, inputs, initial_state, fresh_state, *steps, *options)
    packed = weights if kernel in PRODUCTS_ALONE else kernel_weights(kernel, cell, weights)
    rows = inputs.shape[1] if batch_sizes is None else None
    state, fresh = (_for_rows(parts, rows) for parts in (initial_state, fresh_state))
    cells = all_states and len(state) > 1
    call = Call(kernel, inputs, state, *packed, fresh, *factors, *steps, cells)
    if (backend := backend_of(call)) is None:
        return reference(cell, weights, inputs, initial_state, fresh_state, *steps, *options)
    if inputs.dtype in REDUCED and backend == "cpu":
        single = torch.float32
        return _in(single, cell, weights, inputs, initial_state, fresh_state, *steps, *options)
    outputs, *final = operators.call(*asked_for(backend, call))
    if all_states:
        outputs = form_state(initial_state, [outputs, final.pop()] if cells else [outputs])
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
    noise: Noise | None = None,
    all_states: bool = False,
) -> tuple[State, State]:
    """What `unroll` means: the readable loop. The products with all inputs are one product.

    For a cell whose next state is linear in the last, a scan takes the loop's place.
    """

    def step(from_input: Tensor, state: State, noise: Noise | None) -> tuple[State, tuple[()]]:
        return noisy_step(cell, weights, from_input, state, noise)[0], ()

    if lengths is not None:
        inputs = zero_padding(inputs, lengths)
    from_inputs = cell.from_inputs(weights, inputs)
    if batch_sizes is not None:
        lengths = packed_lengths(batch_sizes).to(inputs.device)
        from_inputs = unpack(from_inputs, lengths, len(batch_sizes))
    options = {
        "fresh_state": fresh_state,
        "lengths": lengths,
        "resets": resets,
        "reverse": reverse,
    }
    if is_linear(cell):
        coefficients, _ = cell.coefficients(from_inputs)
        coefficients = noisy_coefficients(*coefficients, noise)
        outputs, final_state = linear_recurrence(*coefficients, initial_state, **options)
    else:
        keep, options["noise"] = (
            (lambda state, _: state if all_states else cell.output(state)),
            noise,
        )
        with evaluated_once(cell):
            outputs, final_state = loop(step, keep, from_inputs, initial_state, **options)
    if batch_sizes is not None:
        outputs = map_state(lambda part: pack(part, lengths), outputs)
    return outputs, final_state


@operators.specify
def _readable(
    kernel: str,
    inputs: Tensor,
    state: list[Tensor],
    weight_ih: Tensor,
    weight_hh: Tensor | None,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    weight_hr: Tensor | None,
    parameters: Tensor | None,
    fresh: list[Tensor],
    read: Tensor | None,
    drop: Tensor | None,
    zone: list[Tensor],
    *steps: Any,
) -> list[Tensor]:
    """`reference` in the operators' terms: the cell by its kernel's name, states as lists."""
    kernel = split(kernel)[1]
    own = parameters is not None or kernel not in EQUATIONS
    cell = interpreted(kernel) if own else EQUATIONS[kernel]
    form = cell.initial_state(0)
    weights = Weights(weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, parameters)
    fresh_state = form_state(form, fresh) if fresh else None
    noise = Noise(read, drop, form_state(form, zone) if zone else None)
    _, noise = settle(weights, noise)
    state = form_state(form, state)
    *steps, cells = steps
    outputs, final = reference(cell, weights, inputs, state, fresh_state, *steps, noise, cells)
    outputs, *rest = flat_state(outputs)
    return [outputs, *flat_state(final), *rest]


def _factors(
    cell: GatedCell, kernel: str, noise: Noise | None
) -> tuple[tuple[Tensor | None, Tensor | None, list[Tensor]], str]:
    """The noise as an operator takes it, `read`, `drop` and `zone`, and what it cannot take."""
    if noise is None:
        return (None, None, []), ""
    has_product, drops = _takes(kernel)
    factors = {"hidden": noise.hidden, "candidate": noise.candidate}
    read = factors.pop("hidden") if has_product else None
    drop = factors.pop(factor_of(cell)) if drops else None
    left_over = [name for name, factor in factors.items() if factor is not None]
    return (read, drop, flat_state(noise.zone)), left_over[0] if left_over else ""


def _for_rows(state: State, rows: int | None) -> list[Tensor]:
    """The state's tensors, one that stands for all rows spread out."""
    parts = flat_state(state)
    if rows is None or all(part.dim() == 2 and part.shape[0] == rows for part in parts):
        return parts
    return [part.expand(rows, -1) for part in parts]


@constant
def _takes(kernel: str) -> tuple[bool, bool]:
    """Whether there is a product with the hidden state, and whether its program takes a factor."""
    kind = kind_of(kernel)
    return kind.hidden, kind.drops


def _in(
    dtype: torch.dtype,
    cell: GatedCell,
    weights: Weights,
    inputs: Tensor,
    initial_state: State,
    fresh_state: State,
    *steps: Any,
) -> tuple[Tensor, State]:
    """`unroll` in this dtype, or float64 as it came, and its results in the initial state's."""

    def converted(tensor: Tensor) -> Tensor:
        return tensor if tensor.dtype == torch.float64 else tensor.to(dtype)

    lengths, batch_sizes, resets, reverse, noise, all_states = steps
    outputs, final_state = unroll(
        cell,
        Weights(*(weight if weight is None else converted(weight) for weight in weights)),
        converted(inputs),
        map_state(converted, initial_state),
        fresh_state=None if resets is None else map_state(converted, fresh_state),
        lengths=lengths,
        batch_sizes=batch_sizes,
        resets=resets,
        reverse=reverse,
        noise=None if noise is None else noise.map(converted),
        all_states=all_states,
    )
    own = first_tensor(initial_state).dtype
    return map_state(lambda part: part.to(own), (outputs, final_state))
