"""The equations of each kernel in PyTorch, for the readable loop."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seqcells.equations.catalogue import Kernel
from seqcells.equations.program import CACHED, Program, differentiate
from seqcells.equations.protocol import Weights
from seqcells.noise import Noise, drop_args, scale_candidate, scale_hidden
from seqcells.state import State, first_tensor, flat_state, form_state


@functools.lru_cache(maxsize=CACHED)
def readable(kernel: Kernel) -> Readable:
    """Return the equations of a kernel."""
    return ResetBefore() if kernel.by_hand else Interpreted(kernel.program)


class Readable:
    """A cell over time without weights of its own."""

    states = 1
    linear = False

    def initial_state(self, batch_size: int) -> State:
        """Return a state of the kernel's form, with no columns."""
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


class Interpreted(Readable):
    """The step of a program.

    `linear`: the state after the step is `a * state + b`, with a and b of the input alone, so that
    a scan computes it (`LinearCell`).
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
            seen = scale_hidden(parts[0], noise)
            known |= self._gates("h", F.linear(seen, weights.weight_hh, weights.bias_hh))
        if weights.parameters is not None:
            known |= {f"p{n}": row for n, row in enumerate(weights.parameters)}
        results = self.program.run(known)
        if weights.weight_hr is not None:
            results[0] = F.linear(results[0], weights.weight_hr)
        return form_state(state, results), ()

    def coefficients(self, from_input: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, ...]]:
        """Return a and b for the input's products of one step or of all; no gates."""
        if self._decay is None:
            raise ValueError("expected a program that is linear in the state")
        known = self._gates("x", from_input) | {"d0": 1.0, "g0": 1.0, "s0": 0.0}
        (decay,), (addend,) = (part.run(known) for part in (self._decay, self.program))
        return (decay, addend), ()

    def _gates(self, kind: str, product: Tensor) -> dict[str, Any]:
        gates = product.chunk(self.program.gates, dim=-1)
        return {f"{kind}{n}": gate for n, gate in enumerate(gates)}


def _decay(program: Program) -> Program | None:
    """Return the gradient by the state, if it is a function of the input alone."""
    if program.hidden or program.parameters or program.states > 1:
        return None
    write, gradients = differentiate(program)
    decay = write.program(program.gates, False, 1, 0, [gradients["s0"]])
    operands = {operand for _, *operands in decay.values for operand in operands}
    return None if "s0" in operands | set(decay.results) else decay


class ResetBefore(Readable):
    """A GRU or MGU whose reset acts before the product. No program states a second product."""

    def step(
        self, weights: Weights, from_input: Tensor, state: Tensor, noise: Noise | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        return reset_before_step(weights, from_input, state, noise)


def reset_before_step(
    weights: Weights, from_input: Tensor, state: Tensor, noise: Noise | None = None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Compute one step of a GRU or MGU whose reset acts before the candidate's product.

    The first gate resets. The GRU's second one says how much of the state stays; the MGU's one
    gate also says how much of it is replaced.
    """
    H = state.shape[-1]
    parts = (from_input.shape[-1] - H, H)
    weight_gates, weight_candidate = weights.weight_hh.split(parts)
    bias_gates, bias_candidate = (
        (None, None) if weights.bias_hh is None else weights.bias_hh.split(parts)
    )
    input_gates, input_candidate = from_input.split(parts, dim=-1)
    seen = scale_hidden(state, noise)
    gates = torch.sigmoid(input_gates + F.linear(seen, weight_gates, bias_gates)).split(H, dim=-1)
    from_reset = F.linear(gates[0] * seen, weight_candidate, bias_candidate)
    candidate = torch.tanh(input_candidate + from_reset)
    stays, enters = (gates[1], 1 - gates[1]) if len(gates) > 1 else (1 - gates[0], gates[0])
    hidden = enters * scale_candidate(candidate, *drop_args(noise)) + stays * state
    return hidden, (*gates, candidate)
