"""The call: a recurrence as kernels compute it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from seqcells.compatibility import replace
from seqcells.equations.catalogue import Kernel, kernel_of
from seqcells.kernels.narrow import columns, is_narrow

# The parts of a call that are not tensors: the kernel; the numbers of tensors in state, fresh and
# zone; reverse; cells.
Layout = tuple[Kernel, int, int, int, bool, bool]


class Call(NamedTuple):
    """The arguments of the operator `seqcells::recurrence`.

    Attributes:
        inputs: `(T, B, I)`; packed `(N, I)` with `batch_sizes`, on the CPU; outside the operator
            also a single step `(B, I)`, whose only result is the final state.
        state: the tensors of the cell's state, the hidden state first.
        parameters: `(n, H)`, numbers per unit that the step reads in addition to the products.
        fresh: with `resets`, the tensors of the state after a reset.
        read: factor on the hidden state as the recurrent product reads it: `Noise.hidden`.
        drop: factor that the kernel's program reads: `Noise.candidate`, or `hidden`.
        zone: `Noise.zone`, one tensor per tensor of the state, or empty.
        cells: also return the state's tensors but the first after every step.
    """

    kernel: Kernel
    inputs: Tensor
    state: Sequence[Tensor]
    weight_ih: Tensor
    weight_hh: Tensor | None
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    weight_hr: Tensor | None
    parameters: Tensor | None
    fresh: Sequence[Tensor]
    read: Tensor | None
    drop: Tensor | None
    zone: Sequence[Tensor]
    lengths: Tensor | None
    batch_sizes: Tensor | None
    resets: Tensor | None
    reverse: bool
    cells: bool

    @classmethod
    def of(cls, kernel: str, *parts: Any) -> Self:
        """Return the call with these arguments of an operator."""
        return cls(kernel_of(kernel), *parts)

    def arguments(self) -> tuple[Any, ...]:
        """Return the arguments of an operator for this call."""
        return (self.kernel.argument(), *tuple(self)[1:])

    def is_narrow_matrix(self, tensor: Tensor) -> bool:
        """Whether a tensor is one of the matrices, stored in fewer bits than the inputs."""
        matrices, dtype = (self.weight_ih, self.weight_hh, self.weight_hr), self.inputs.dtype
        if dtype is torch.float64:  # kernels sum narrow products in float32
            return False
        return any(tensor is matrix for matrix in matrices) and is_narrow(tensor, dtype)

    def is_single(self) -> bool:
        """Whether this is one step, without a time dimension."""
        return self.inputs.dim() == 2 and self.batch_sizes is None

    @property
    def heads(self) -> int:
        """The number of blocks of `weight_hh`, each for the units of one head."""
        weight = self.weight_hh
        return 1 if weight is None else self.state[0].shape[1] // columns(weight)

    @property
    def steps(self) -> int:
        """The number of time steps T."""
        if self.batch_sizes is not None:
            return self.batch_sizes.shape[0]
        return 1 if self.inputs.dim() == 2 else self.inputs.shape[0]

    @property
    def weights(self) -> tuple[Any, ...]:
        """The six tensors, some of them None, of the products and the step."""
        return self[3:9]

    @property
    def tensors(self) -> list[Tensor | None]:
        """The differentiable tensors, in the order of the gradients."""
        return [self.inputs, *self.state, *self.weights, *self.fresh]

    @property
    def noise(self) -> list[Tensor | None]:
        """The tensors of the noise."""
        return [self.read, self.drop, *self.zone]

    def split(self) -> tuple[Layout, list[Tensor | None]]:
        """Return the layout and all tensors, the differentiable ones first."""
        others = [*self.noise, self.lengths, self.batch_sizes, self.resets]
        parts = len(self.state), len(self.fresh), len(self.zone)
        return (self.kernel, *parts, self.reverse, self.cells), [*self.tensors, *others]

    @classmethod
    def join(cls, layout: Layout, tensors: Sequence[Any]) -> Self:
        """Return the call with this layout and these tensors: the inverse of `split`."""
        kernel, states, fresh, zones, reverse, cells = layout
        weights, restarts = 1 + states, 7 + states
        noise = restarts + fresh
        zone, steps = noise + 2, noise + 2 + zones
        parts: list[Any] = [
            *tensors[weights:restarts],
            tensors[restarts:noise],
            *tensors[noise:zone],
            tensors[zone:steps],
            *tensors[steps:],
            reverse,
            cells,
        ]
        return cls(kernel, tensors[0], tensors[1:weights], *parts)

    def with_time(self) -> Self:
        """Return a single step as a sequence of one step."""
        return replace(self, inputs=self.inputs.unsqueeze(0)) if self.is_single() else self


def time_stride(noise: Tensor | None) -> int:
    """Return the distance between two steps of a noise; 0 if it applies to all steps."""
    return 0 if noise is None or noise.dim() < 3 else noise.shape[1:].numel()
