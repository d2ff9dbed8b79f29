"""The equations of each kernel in PyTorch, used by the readable loop."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seqcells.equations.catalogue import Kernel
from seqcells.equations.gradient import differentiate
from seqcells.equations.late import hidden_rows
from seqcells.equations.program import CACHE_SIZE, Program
from seqcells.equations.protocol import Weights
from seqcells.noise import Noise, drop_args
from seqcells.state import State, first_tensor, flat_state, form_state


@functools.lru_cache(maxsize=CACHE_SIZE)
def equations_of(kernel: Kernel) -> Equations:
    """Return the equations of a kernel."""
    return ProgramEquations(kernel.program)


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
        self._early = program.early
        self._decay = _decay(program)
        self.linear = self._decay is not None

    def step(
        self, weights: Weights, from_input: Tensor, state: State, noise: Noise | None = None
    ) -> tuple[State, tuple[Tensor, ...]]:
        parts, program = flat_state(state), self.program
        known = _gates("x", from_input, program.inputs)
        known |= {f"s{n}": part for n, part in enumerate(parts)} | {
            "d0": (*drop_args(noise), 1.0)[0]
        }
        if program.hidden:
            from_hidden = hidden_rows(weights, range(self._early), program.gates, parts[0], noise)
            known |= _gates("h", from_hidden, self._early)
            for gate in range(self._early, program.gates):
                rows = range(gate, gate + 1)
                known[f"h{gate}"] = functools.partial(
                    hidden_rows, weights, rows, program.gates, noise=noise
                )
        if weights.parameters is not None:
            known |= {f"p{n}": row for n, row in enumerate(weights.parameters)}
        results = program.run(known)
        if weights.weight_hr is not None:
            results[0] = F.linear(results[0], weights.weight_hr)
        return form_state(state, results), ()

    def coefficients(self, from_input: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, ...]]:
        """Return a and b for the input products of one step or of all steps, and no gates."""
        if self._decay is None:
            raise ValueError(
                "expected a program that is linear in the state, got another; use `step`"
            )
        known = _gates("x", from_input, self.program.inputs) | {"d0": 1.0, "g0": 1.0, "s0": 0.0}
        (decay,), (addend,) = (part.run(known) for part in (self._decay, self.program))
        return (decay, addend), ()


def _gates(kind: str, product: Tensor, count: int) -> dict[str, Any]:
    gates = product.chunk(count, dim=-1) if count else ()
    return {f"{kind}{n}": gate for n, gate in enumerate(gates)}


def _decay(program: Program) -> Program | None:
    """Return the gradient by the state; None if it is not a function of the input only."""
    if program.hidden or program.parameters or program.states > 1:
        return None
    write, gradients = differentiate(program)
    decay = write.program(program.gates, False, 1, 0, program.inputs, [gradients["s0"]])
    operands = {operand for _, *operands in decay.values for operand in operands}
    return None if "s0" in operands | set(decay.results) else decay
