"""Record the operations of a cell's `activate` as values of a `Program`."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqcells.compatibility import TorchDispatchMode, without_modes
from seqcells.equations.aten import (
    COMPOSITE,
    REARRANGEMENTS,
    REDUCTIONS,
    SINGLE,
    SLICES,
    SUPPORTED,
    SUPPORTED_NAMES,
    aten,
)
from seqcells.equations.late import late_rows
from seqcells.equations.program import UntraceableError, Writer, is_number


class Gates(NamedTuple):
    """The gates of a cell.

    Attributes:
        inputs: number of the first gates, which have a product with the input.
        late: the last gates, whose products with W_hh `activate` computes with `multiply`.
        hidden: whether there is a product with W_hh; `from_hidden` is None if not.
    """

    names: tuple[str, ...]
    inputs: int
    late: tuple[str, ...]
    hidden: bool

    @property
    def early(self) -> int:
        """The number of gates in `from_hidden`."""
        return len(self.names) - len(self.late) if self.hidden else 0


class Recorder(TorchDispatchMode):
    """Records operations. A tensor is a list of values, one for each block of H columns."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # the inherited method imports Dynamo, which takes a second and a half

    def __init__(
        self, write: Writer, hidden_size: int, named: list[tuple[Tensor, list[str]]]
    ) -> None:
        super().__init__()
        self.write = write
        self.hidden_size = hidden_size
        self.known = {id(tensor): names for tensor, names in named}
        self.alive = [tensor for tensor, _ in named]  # keeps their ids unique
        self.parameters: dict[int, tuple[str, Tensor]] = {}
        self.read: set[str] = set()
        self.late: set[int] = set()  # gates whose late product was recorded

    def parameter(self, name: str, value: Tensor) -> Tensor:
        """Return a tensor that stands for a parameter."""
        value = value.detach().clone()
        self.alive.append(value)
        self.parameters[id(value)] = name, value
        return value

    def number(self, names: Sequence[str]) -> None:
        """Name these parameters p0, p1, ..., one name for each number per unit."""
        start = 0
        for key, (name, value) in self.parameters.items():
            if name in names and value.dim() == 1 and len(value) % self.hidden_size == 0:
                count = len(value) // self.hidden_size
                self.known[key] = [f"p{start + n}" for n in range(count)]
                start += count

    def names_of(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)) and any(isinstance(part, Tensor) for part in value):
            return [name for part in value for name in self.names_of(part)]
        if not isinstance(value, Tensor):
            return value
        if id(value) in self.parameters:
            name, tensor = self.parameters[id(value)]
            self.read.add(name)
            _check_numbers(name, tensor, self.hidden_size)
        elif id(value) not in self.known:
            raise UntraceableError(
                f"activate: expected reads of arguments and parameters only, got a tensor of shape "
                f"{tuple(value.shape)}; make it a parameter, or a number"
            )
        return self.known[id(value)]

    def multiply(self, gates: Gates, operand: Tensor, *names: str) -> Tensor:
        """Record late products, as `equations.late.late_product` computes them."""
        rows, source = late_rows(gates.names, gates.late, names), self.names_of(operand)
        units = operand.dim() == 2 and operand.shape[-1] == self.hidden_size
        if not units or len(source) != 1 or is_number(source[0]):
            raise UntraceableError(
                f"multiply: expected one value per unit (B, {self.hidden_size}), got a tensor of "
                f"shape {tuple(operand.shape)}"
            )
        if not self.late.isdisjoint(rows):
            raise UntraceableError(f"multiply: expected each gate once, got {names} again")
        self.late |= {*rows}
        with without_modes():
            result = operand.new_zeros(operand.shape[0], len(rows) * self.hidden_size)
        self.alive.append(result)
        self.known[id(result)] = [self.write("product", f"h{row}", *source) for row in rows]
        return result

    def __torch_dispatch__(
        self, target: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if not torch.is_grad_enabled():
            raise UntraceableError("activate turns gradients off, or has an autograd.Function")
        names = self.call(target, args, kwargs or {})
        results = target(*args, **(kwargs or {}))
        several = isinstance(results, (list, tuple))
        for result, value in zip(results, names) if several else [(results, names)]:
            self.alive.append(result)
            self.known[id(result)] = value
        return results

    def call(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target not in SUPPORTED and target is not aten.log_sigmoid_forward.default:
            raise UntraceableError(
                f"activate calls {target}; supported operators: {SUPPORTED_NAMES}"
            )
        operands = [self.names_of(value) for value in args]
        if target in REARRANGEMENTS or target in SLICES:
            return self.move(target, args, operands)
        if target is aten.log_sigmoid_forward.default:
            negated = [self.write("softplus", self.write("neg", a)) for a in operands[0]]
            return [[self.write("neg", value) for value in negated], None]
        if target in REDUCTIONS:
            return self.reduce(target, args[0], kwargs, *operands)
        if kwargs:
            raise UntraceableError(f"activate: expected {target} without options, got {kwargs}")
        columns = [
            operand
            if isinstance(operand, list)
            else [None if operand is None else _constant(operand)]
            for operand in operands
        ]
        width = max(map(len, columns))  # a width of one is a number per row
        if any(len(column) not in (1, width) for column in columns):
            raise UntraceableError(f"activate: expected operands of {target} of equal widths")
        columns = [column * (width // len(column)) for column in columns]
        return [self.apply(target, list(column)) for column in zip(*columns)]

    def reduce(self, target: Any, input: Tensor, kwargs: Any, source: list[str], *rest: Any) -> Any:
        """Record the mean, the sum or the layer normalisation of a row."""
        write = self.write
        if target is aten.native_layer_norm.default:
            shape, gain, shift, epsilon = rest
            if list(shape) != [input.shape[-1]]:
                raise UntraceableError(
                    f"activate: expected layer norm over whole rows, got shape {list(shape)}"
                )
            mean = self.mean(source)
            source = [write("sub", value, mean) for value in source]
            variance = self.mean([write("mul", value, value) for value in source])
            scale = write("rsqrt", write("add", variance, repr(epsilon)))
            source = [write("mul", value, scale) for value in source]
            for operation, parameter in (("mul", gain), ("add", shift)):
                if parameter is not None:
                    source = [write(operation, *pair) for pair in zip(source, parameter)]
            return [source, None, None]
        dims, keepdim = rest[0], rest[1:2] == (True,)
        for dim in dims:
            self.along_units(input, dim)
        if not keepdim or kwargs:
            raise UntraceableError(
                f"activate: expected {target} with keepdim=True and without dtype"
            )
        mean = self.mean(source)
        if target is aten.mean.dim:
            return [mean]
        return [write("mul", mean, repr(float(input.shape[-1])))]

    def mean(self, values: list[str]) -> str:
        """Record the mean of a row of several blocks."""
        total = values[0]
        for value in values[1:]:
            total = self.write("add", total, value)
        if len(values) > 1:
            total = self.write("mul", repr(1 / len(values)), total)
        return self.write("mean", total)

    def apply(self, target: Any, operands: list[Any]) -> str:
        if target in SINGLE:
            return self.write(SINGLE[target], *operands)
        return COMPOSITE[target](self.write, *operands)

    def move(self, target: Any, args: tuple[Any, ...], operands: list[Any]) -> Any:
        H = self.hidden_size
        source, *rest = operands
        if target in (aten.clone.default, aten.alias.default):
            return source
        if target is aten.slice.Tensor and _is_whole(*rest):  # torch 2.7 records `[:]`
            return source
        if target is aten.cat.default:
            self.along_units(args[0][0], rest[0] if rest else 0)
            return source
        self.along_units(args[0], rest[0] if target is aten.slice.Tensor else (*rest, 0)[1])
        if target is aten.slice.Tensor:
            _, begin, end, *stride = (*rest, None, None)[:4]
            bounds = (begin or 0, min(end, len(source) * H) if end is not None else len(source) * H)
            if stride not in ([], [None], [1]) or any(bound % H for bound in bounds):
                raise UntraceableError(
                    f"activate: expected slices of whole gates (H={H}), got {bounds}"
                )
            return source[bounds[0] // H : bounds[1] // H]
        sizes = self.sizes(target, len(source) * H, rest[0])
        if any(size % H for size in sizes):
            raise UntraceableError(
                f"activate: expected splits into whole gates (H={H}), got sizes {sizes}"
            )
        parts, at = [], 0
        for size in sizes:
            parts.append(source[at : at + size // H])
            at += size // H
        return parts

    def sizes(self, target: Any, width: int, argument: Any) -> list[int]:
        """Return the sizes of the parts of a split or chunk."""
        if isinstance(argument, (list, tuple)):
            return list(argument)
        size = -(-width // argument) if target is aten.chunk.default else argument
        return [min(size, width - at) for at in range(0, width, size)]

    def along_units(self, tensor: Tensor, dim: int) -> None:
        if dim % tensor.dim() != tensor.dim() - 1:
            raise UntraceableError(
                f"activate: expected an operation along the units, got dimension {dim}"
            )


def _is_whole(dim: int = 0, begin: int | None = None, end: int | None = None, *step: int) -> bool:
    """Return whether a slice takes all of a dimension, whatever its size."""
    return not begin and (end is None or end == sys.maxsize) and step in ((), (1,))


def _constant(number: Any) -> str:
    if not isinstance(number, (bool, int, float)) or not math.isfinite(number):
        raise UntraceableError(f"activate: expected finite numbers, got {number}")
    return repr(float(number))


def _check_numbers(name: str, value: Tensor, hidden_size: int) -> None:
    if value.dim() != 1 or len(value) % hidden_size:
        raise UntraceableError(
            f"{name}: expected a vector of one or more numbers per unit (H={hidden_size}), "
            f"got shape {tuple(value.shape)}"
        )
