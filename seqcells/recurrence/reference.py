"""Reference implementation: compute a request in plain PyTorch, differentiated by autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seqcells.compatibility import replace
from seqcells.noise import Noise, coefficients_with_noise, step_with_noise
from seqcells.recurrence.loop import cached_parametrizations, loop
from seqcells.recurrence.request import Request
from seqcells.recurrence.scan import linear_recurrence
from seqcells.sequences import pack, packed_lengths, unpack, zero_padding
from seqcells.state import State, first_tensor, map_state
from seqcells.validation import check_coefficients, check_gates


def reference(request: Request, validated: bool = False) -> tuple[State, State]:
    """Compute a request: outputs, or all states with `all_states`, and the final state.

    `validated` states that the results of a single step need no validation.

    The input products of all steps are one product. A cell whose next state is linear in the
    previous one runs as a parallel scan.
    """
    request = request.widened()
    cell, state = request.cell, request.state
    if request.is_single():
        from_input = cell.from_inputs(request.weights, request.inputs)
        noise = request.noise
        final, gates = step_with_noise(cell, request.weights, from_input, state, noise, validated)
        if not validated:
            check_gates(cell, gates, from_input)
        return (final if request.all_states else cell.output(final)), final
    if request.batch_sizes is not None:
        return _packed(request)
    if cell.linear:
        from_inputs = _from_inputs(request)
        result = cell.coefficients(from_inputs)
        (decay, addend), _ = check_coefficients(cell, result, from_inputs)
        decay, addend = coefficients_with_noise(decay, addend, request.noise)
        return linear_recurrence(
            decay,
            addend,
            state,
            fresh_state=request.fresh,
            lengths=request.lengths,
            resets=request.resets,
            reverse=request.reverse,
        )
    if request.all_states:
        return collect_steps(request, lambda state, _: state)
    return collect_steps(request, lambda state, _: cell.output(state))


def collect_steps(
    request: Request, select: Callable[[State, tuple[Tensor, ...]], Any]
) -> tuple[Any, State]:
    """Return the results of `select(state, gates)` of every step, and the final state."""
    request = request.widened()
    cell, weights = request.cell, request.weights
    validated = False

    def step(
        from_input: Tensor, state: State, noise: Noise | None
    ) -> tuple[State, tuple[Tensor, ...]]:
        nonlocal validated
        if validated:
            return step_with_noise(cell, weights, from_input, state, noise, True)
        new, gates = step_with_noise(cell, weights, from_input, state, noise)
        check_gates(cell, gates, from_input)
        validated = True  # once per call
        return new, gates

    with cached_parametrizations(cell):
        return loop(
            step,
            select,
            _from_inputs(request),
            request.state,
            fresh_state=request.fresh,
            lengths=request.lengths,
            resets=request.resets,
            reverse=request.reverse,
            noise=request.noise,
        )


@torch.no_grad()
def check_equations(request: Request) -> None:
    """Run one step with zeros as inputs, so that an error of the cell's equations is raised."""
    request = request.widened()
    cell, weights, state = request.cell, request.weights, request.state
    inputs = request.inputs.new_zeros(first_tensor(state).shape[0], request.inputs.shape[-1])
    from_input = cell.from_inputs(weights, inputs)
    _, gates = step_with_noise(cell, weights, from_input, state, None)
    check_gates(cell, gates, from_input)


def _from_inputs(request: Request) -> Tensor:
    inputs = request.inputs
    if request.lengths is not None:
        inputs = zero_padding(inputs, request.lengths)
    return request.cell.from_inputs(request.weights, inputs)


def _packed(request: Request) -> tuple[State, State]:
    sizes: Any = request.batch_sizes
    lengths = packed_lengths(sizes).to(request.inputs.device)
    padded = unpack(request.inputs, lengths, len(sizes))
    outputs, final = reference(replace(request, inputs=padded, lengths=lengths, batch_sizes=None))
    return map_state(lambda part: pack(part, lengths), outputs), final
