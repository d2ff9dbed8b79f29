"""What a recurrence is computed of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from torch import Tensor


class Call(NamedTuple):
    """The arguments of `recurrence`.

    `cell` names its kernel (`catalogue.kind_of`), and `parameters (n, H)` are what its step reads
    beside the products. `inputs (T, B, I)`, or packed `(N, I)` with `batch_sizes (T,)` on the CPU;
    `state` and, with `resets (T, B)`, `fresh` hold a tensor for each part of the cell's state, the
    hidden one first; `lengths (B,)`. `read`, `drop` and `zone`, the latter with a tensor for each
    part of the state or none, are a `Noise`'s `hidden`, `candidate` and `zone`. Results are
    `[outputs, *final_state]` and, with `cells`, the second part of each step's state, `(T, B, H)`.
    """

    cell: str
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

    @property
    def flags(self) -> tuple[Any, ...]:
        """What is no tensor, with the number of the state's parts and of the zone's."""
        return self.cell, len(self.state), len(self.zone), self.reverse, self.cells

    @property
    def tensors(self) -> list[Tensor | None]:
        """What can be differentiated, in the order in which `_backward` returns the gradients."""
        return [self.inputs, *self.state, *self[3:9], *self.fresh]

    @property
    def noise(self) -> list[Tensor | None]:
        return [self.read, self.drop, *self.zone]

    @property
    def rest(self) -> list[Tensor | None]:
        """The tensors that are never differentiated."""
        return [*self.noise, self.lengths, self.batch_sizes, self.resets]

    @classmethod
    def join(
        cls, cell: str, parts: int, zones: int, reverse: bool, cells: bool, *tensors: Tensor | None
    ) -> Self:
        """The call of these `flags`, `rest` and `tensors`, in this order."""
        read, drop, *zone = tensors[: 2 + zones]
        steps, tensors = tensors[2 + zones : 5 + zones], tensors[5 + zones :]
        inputs, state, fresh = tensors[0], tensors[1 : 1 + parts], tensors[7 + parts :]
        weights = tensors[1 + parts : 7 + parts]
        noise = read, drop, zone
        return cls(cell, inputs, list(state), *weights, list(fresh), *noise, *steps, reverse, cells)
