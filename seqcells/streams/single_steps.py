"""A module as a list of single steps, one per layer, for steppers and exports."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from seqcells.cells.base import GatedCell
from seqcells.cells.table import EQUATIONS
from seqcells.equations.heads import full_matrix
from seqcells.kernels.call import Call
from seqcells.kernels.checks import check
from seqcells.kernels.narrow import float_like
from seqcells.layers import _Layers
from seqcells.modifiers.base import Modifier, innermost
from seqcells.noise import apply_weight_factor
from seqcells.recurrence.choice import native_call
from seqcells.recurrence.request import Request
from seqcells.recurrent import Recurrent, is_fusible, prepare
from seqcells.stack import Stack
from seqcells.state import State, conform_state, flat_state, form_state, map_state

ADVICE = "use a cell, Recurrent, RNN, GRU, LSTM or Stack of seqcells"


class SingleSteps(NamedTuple):
    """The layers of a module, from first to last, each as one step in evaluation mode.

    Attributes:
        calls: one call of a kernel per layer. Their states are the initial states.
        forms: an initial state per layer, in the structure of its cell.
        residual: a layer's input is added to its output if their widths are equal.
        kind: `"cell"`, `"layers"` or `"stack"`, which decides the form of the module's state.
    """

    calls: list[Call]
    forms: list[State]
    residual: bool
    kind: str

    def join(self, states: Sequence[Sequence[Tensor]]) -> State:
        """Return the module's state from the tensors of each layer's state."""
        if self.kind == "layers":
            parts = [torch.stack(tuple(part)) for part in zip(*states, strict=True)]
            return parts[0] if len(parts) == 1 else tuple(parts)
        formed = [form_state(form, list(parts)) for form, parts in zip(self.forms, states)]
        return formed[0] if self.kind == "cell" else tuple(formed)

    def with_full_matrices(self) -> Self:
        """Return the same steps with recurrent matrices of one head, except in int8.

        The hidden values of each head are rounded to int8 with their own scale.
        """
        calls = []
        for call in self.calls:
            weight = call.weight_hh
            if call.heads > 1 and weight is not None and weight.dtype is not torch.int8:
                whole = full_matrix(weight, call.state[0].shape[1])
                call = call._replace(weight_hh=whole)
            calls.append(call)
        return self._replace(calls=calls)

    def split(self, state: State) -> list[list[Tensor]]:
        """Return the tensors of each layer's state from a state of the module, after validation.

        Raises:
            TypeError, ValueError: another structure, shape or dtype than `join` returns.
        """
        expected = self.join([flat_state(form) for form in self.forms])
        # Autocast admits other dtypes.
        state = conform_state(state, expected)
        state = map_state(lambda part, own: part.detach().to(own), state, expected)
        if self.kind == "cell":
            return [flat_state(state)]
        if self.kind == "stack":
            return [flat_state(part) for part in state]
        return [list(parts) for parts in zip(*(part.unbind(0) for part in flat_state(state)))]


def _check_chain(calls: list[Call]) -> None:
    """Raise a ValueError unless each layer takes the outputs of the layer before."""
    for number, (before, after) in enumerate(itertools.pairwise(calls), 1):
        expected = before.state[0].shape[1], before.inputs.dtype
        given = after.inputs.shape[1], after.inputs.dtype
        if given != expected:
            raise ValueError(
                f"module: expected layer {number} with {expected[0]} inputs in {expected[1]}, as "
                f"the layer before it, got {given[0]} in {given[1]}"
            )


@torch.no_grad()
def single_steps(module: nn.Module, batch_size: int) -> SingleSteps:
    """Return the layers of a module as single steps for a batch.

    Raises:
        TypeError: `module` is neither a cell nor a module of cells of seqcells.
        ValueError: it is in training mode although it draws noise then, reads both directions, or
            has a cell without a kernel.
    """
    _check_mode(module)
    if isinstance(module, _Layers):
        requests, residual, kind = _of_layers(module, batch_size), False, "layers"
    elif isinstance(module, Stack):
        parts = [_unidirectional(layer) for layer in module.layers]
        requests, kind = [_of_recurrent(part, batch_size) for part in parts], "stack"
        residual = module.residual
    elif isinstance(module, Recurrent):
        requests, residual, kind = [_of_recurrent(module, batch_size)], False, "cell"
    elif isinstance(module, (GatedCell, Modifier)):
        requests, residual, kind = [_of_recurrent(Recurrent(module), batch_size)], False, "cell"
    else:
        raise TypeError(
            f"module: expected a recurrent module, got {type(module).__name__}; {ADVICE}"
        )
    calls = [_call_of(request) for request in requests]
    _check_chain(calls)
    return SingleSteps(calls, [request.state for request in requests], residual, kind)


def _check_mode(module: nn.Module) -> None:
    if not isinstance(module, nn.Module) or not module.training:
        return
    draws = [
        part
        for part in module.modules()
        if isinstance(part, Modifier) and part.training and type(part).draw is not Modifier.draw
    ]
    if draws or vars(module).get("dropout", 0.0):
        raise ValueError(
            "module: expected a module in evaluation mode, got one that draws noise in training "
            "mode; call .eval()"
        )


def _unidirectional(layer: Any) -> Recurrent:
    if not isinstance(layer, Recurrent):
        raise ValueError(
            "module: expected layers that run forward, got a bidirectional layer, which needs the "
            "whole sequence"
        )
    return layer


def _of_layers(module: _Layers, batch_size: int) -> list[Request]:
    if module.bidirectional:
        raise ValueError(
            "module: expected layers that run forward, got bidirectional=True, which needs the "
            "whole sequence"
        )
    cell, weight = EQUATIONS[module.mode.lower()], float_like(module, "weight_ih_l0")
    width = module.proj_size or module.hidden_size
    sizes = [module.input_size, *[width] * (module.num_layers - 1)]
    states = module._initial_states(None, batch_size, weight.new_zeros(batch_size, 1))
    return [
        Request(cell, weights, weight.new_zeros(batch_size, size), state)
        for size, state, weights in zip(sizes, states, module._weights(), strict=True)
    ]


def _of_recurrent(recurrent: Recurrent, batch_size: int) -> Request:
    if recurrent.reverse:
        raise ValueError(
            "module: expected a recurrence that runs forward, got reverse=True, which needs the "
            "whole sequence"
        )
    cell: Any = recurrent.cell
    if not is_fusible(cell):
        raise ValueError(
            f"module: expected a cell with a kernel, got {type(cell).__name__}, which is called at "
            "every step; write its equations as a GatedCell, without hooks"
        )
    like = innermost(cell)._any_parameter()
    inputs = like.new_zeros(1, batch_size, cell.input_size)
    request, _ = prepare(Recurrent(cell), inputs, None, None, None, None)
    return request._replace(inputs=inputs[0])


def _call_of(request: Request) -> Call:
    if request.noise is not None:
        hidden, candidate, zone, _ = request.noise
        if any(
            part.dim() > 2 for part in (*flat_state(zone), hidden, candidate) if part is not None
        ):
            raise ValueError(
                "module: expected modifiers whose noise in evaluation mode is the same at every "
                "step, got noise per step"
            )
        weights, noise = apply_weight_factor(request.weights, request.noise)
        request = request._replace(weights=weights, noise=noise)
    call, reason = native_call(request)
    if call is None:
        raise ValueError(f"module: expected a module that the C++ kernels support: {reason}")
    check(call)
    return call
