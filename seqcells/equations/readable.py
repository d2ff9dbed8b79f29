"""The equations of each kernel in PyTorch, used by the readable loop."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seqcells.equations.catalogue import Kernel
from seqcells.equations.heads import hidden_product
from seqcells.equations.program import CACHE_SIZE, Program, differentiate
from seqcells.equations.protocol import Weights
from seqcells.noise import Noise, drop_args, scale_candidate, scale_hidden
from seqcells.state import State, first_tensor, flat_state, form_state


@functools.lru_cache(maxsize=CACHE_SIZE)
def equations_of(kernel: Kernel) -> Equations:
    """Return the equations of a kernel."""
    return ResetBeforeEquations() if kernel.handwritten else ProgramEquations(kernel.program)


class Equations:
    """Base class: the interface of a cell that the loop over time uses, without weights."""

    states = 1
    linear = False

    def initial_state(self, batch_size: int) -> State:
        """Return a state with the structure of the kernel's state, and no columns."""
        parts = (torch.empty(batch_size, 0),) * self.states
        return parts if len(parts) > 1 else parts[0]

    def from_inputs(self, weights: Weights, inputs: Tensor) -> Tensor:
        return F.linear(inputs, weights.weight_ih, weights.bias_ih)

    def output(self, state: State) -> Tensor:
        return first_tensor(state)

    def step(
        self, weights: Weights, from_input: Tensor, state: State, noise: Noise | None = None
    ) -> tuple[State, tuple[Tensor, ...]]:
        raise NotImplementedError


class ProgramEquations(Equations):
    """The equations of a program.

    `linear` states whether the new state is `a * state + b`, with a and b functions of the input
    only. Then a scan computes the recurrence (`LinearCell`).
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.states = program.states
        self._decay = _decay(program)
        self.linear = self._decay is not None

    def step(
        self, weights: Weights, from_input: Tensor, state: State, noise: Noise | None = None
    ) -> tuple[State, tuple[Tensor, ...]]:
        parts = flat_state(state)
        known = self._gates("x", from_input)
        known |= {f"s{n}": part for n, part in enumerate(parts)} | {
            "d0": (*drop_args(noise), 1.0)[0]
        }
        if self.program.hidden:
            scaled = scale_hidden(parts[0], noise)
            known |= self._gates("h", hidden_product(scaled, weights.weight_hh, weights.bias_hh))
        if weights.parameters is not None:
            known |= {f"p{n}": row for n, row in enumerate(weights.parameters)}
        results = self.program.run(known)
        if weights.weight_hr is not None:
            results[0] = F.linear(results[0], weights.weight_hr)
        return form_state(state, results), ()

    def coefficients(self, from_input: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, ...]]:
        """Return a and b for the input products of one step or of all steps, and no gates."""
        if self._decay is None:
            raise ValueError(
                "expected a program that is linear in the state, got another; use `step`"
            )
        known = self._gates("x", from_input) | {"d0": 1.0, "g0": 1.0, "s0": 0.0}
        (decay,), (addend,) = (part.run(known) for part in (self._decay, self.program))
        return (decay, addend), ()

    def _gates(self, kind: str, product: Tensor) -> dict[str, Any]:
        gates = product.chunk(self.program.gates, dim=-1)
        return {f"{kind}{n}": gate for n, gate in enumerate(gates)}


def _decay(program: Program) -> Program | None:
    """Return the gradient by the state; None if it is not a function of the input only."""
    if program.hidden or program.parameters or program.states > 1:
        return None
    write, gradients = differentiate(program)
    decay = write.program(program.gates, False, 1, 0, [gradients["s0"]])
    operands = {operand for _, *operands in decay.values for operand in operands}
    return None if "s0" in operands | set(decay.results) else decay


class ResetBeforeEquations(Equations):
    """A GRU or MGU whose reset acts before the candidate's product."""

    def step(
        self, weights: Weights, from_input: Tensor, state: Tensor, noise: Noise | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        return reset_before_step(weights, from_input, state, noise)


def reset_before_step(
    weights: Weights, from_input: Tensor, state: Tensor, noise: Noise | None = None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Compute one step of a GRU or MGU whose reset acts before the candidate's product.

    The first gate is the reset. The GRU's second gate is the share of the state that stays. The
    MGU's only gate is also the share that is replaced.
    """
    H = state.shape[-1]
    parts = (from_input.shape[-1] - H, H)
    weight_gates, weight_candidate = weights.weight_hh.split(parts)
    bias_gates, bias_candidate = (
        (None, None) if weights.bias_hh is None else weights.bias_hh.split(parts)
    )
    input_gates, input_candidate = from_input.split(parts, dim=-1)
    scaled = scale_hidden(state, noise)
    gates = torch.sigmoid(input_gates + hidden_product(scaled, weight_gates, bias_gates)).split(
        H, dim=-1
    )
    from_reset = hidden_product(gates[0] * scaled, weight_candidate, bias_candidate)
    candidate = torch.tanh(input_candidate + from_reset)
    keep, replace = (gates[1], 1 - gates[1]) if len(gates) > 1 else (1 - gates[0], gates[0])
    hidden = replace * scale_candidate(candidate, *drop_args(noise)) + keep * state
    return hidden, (*gates, candidate)
