"""One recurrence as a kernel computes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from torch import Tensor

from seqcells.equations.catalogue import Kernel, kernel_of

# The parts of a call that are not tensors: kernel, numbers of state parts, of fresh parts and of
# zone parts, reverse, cells.
Layout = tuple[Kernel, int, int, int, bool, bool]


class Call(NamedTuple):
    """The arguments of the operator `seqcells::recurrence`.

    Attributes:
        inputs: `(T, B, I)`; packed `(N, I)` with `batch_sizes`, on the CPU; outside the operator
            also a single step `(B, I)`, which has no outputs beside the final state.
        state: a tensor for each part of the cell's state, the hidden state first.
        parameters: `(n, H)`, what the step reads beside the products.
        fresh: with `resets`, the parts of the state that a reset restarts from.
        read: the factor on the hidden state that the product reads, a `Noise`'s `hidden`.
        drop: the factor that the kernel's program reads.
        zone: for each part of the state the share of its old value that stays, or nothing.
        cells: return the second part of every step's state as well.
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
        """Return the call that an operator's arguments state."""
        return cls(kernel_of(kernel), *parts)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The call as an operator takes it."""
        return (self.kernel.argument, *self[1:])

    @property
    def single(self) -> bool:
        """Whether this is one step, without a dimension of time."""
        return self.inputs.dim() == 2 and self.batch_sizes is None

    @property
    def steps(self) -> int:
        """The number of time steps T."""
        if self.batch_sizes is not None:
            return self.batch_sizes.shape[0]
        return 1 if self.inputs.dim() == 2 else self.inputs.shape[0]

    @property
    def weights(self) -> tuple[Any, ...]:
        """The six tensors, some of them None, that the products and the step read."""
        return self[3:9]

    @property
    def tensors(self) -> list[Tensor | None]:
        """The tensors that can be differentiated, in the order of the gradients."""
        return [self.inputs, *self.state, *self.weights, *self.fresh]

    @property
    def noise(self) -> list[Tensor | None]:
        """The factors and shares."""
        return [self.read, self.drop, *self.zone]

    def split(self) -> tuple[Layout, list[Tensor | None]]:
        """Return the layout and all tensors, those that can be differentiated first."""
        others = [*self.noise, self.lengths, self.batch_sizes, self.resets]
        parts = len(self.state), len(self.fresh), len(self.zone)
        return (self.kernel, *parts, self.reverse, self.cells), [*self.tensors, *others]

    @classmethod
    def join(cls, layout: Layout, tensors: Sequence[Any]) -> Self:
        """Return the call that `split` took apart."""
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
        return self._replace(inputs=self.inputs.unsqueeze(0)) if self.single else self


def time_stride(noise: Tensor | None) -> int:
    """Return the numbers between two steps of a noise, 0 if all steps have the same."""
    return 0 if noise is None or noise.dim() < 3 else noise.shape[1:].numel()
