"""Record a cell's `activate` as a `Program`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

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
from seqcells.equations.program import Program, UntraceableError, Writer


def trace_activate(
    activate: Callable[..., Any],
    gates: int,
    hidden: bool,
    hidden_size: int,
    state: Sequence[Tensor],
    parameters: dict[str, Tensor],
    drop: bool,
) -> tuple[Program, list[str]]:
    """Return the program of an `activate`, and the names of the parameters that it reads.

    Args:
        activate: called as `activate(parameters, from_input, from_hidden, state, *drop)`; returns
            the parts of the next state.
        hidden: whether there is a product with the hidden state; `from_hidden` is None if not.
        state: parts of the state, each `(B, H)`.
        parameters: parameters that `activate` may read, by name. Those that it reads must be
            vectors of one or more numbers per unit.
        drop: whether `activate` takes a noise factor after the state.

    Raises:
        UntraceableError: an unsupported operator, or a tensor whose shape is not that of gates.
    """
    names = [_names("x", gates), *([_names("h", gates)] if hidden else [])]
    names += [[f"s{n}"] for n in range(len(state))] + [["d0"]] * drop

    def record(numbered: Sequence[str], rows: int) -> tuple[Program, list[str]]:
        """Return the program for a number of rows, and the parameters read.

        The parameters in `numbered` are p0, p1, ... in the program.
        """
        fused = state[0].new_zeros(rows, gates * hidden_size)
        inputs = [fused, *([fused.clone()] if hidden else [])]
        inputs += [part.new_zeros(rows, hidden_size) for part in state]
        inputs += [fused.new_ones(rows, hidden_size)] if drop else []
        recorder = _Recorder(Writer(), hidden_size, list(zip(inputs, names)))
        stand_ins = {name: recorder.parameter(name, value) for name, value in parameters.items()}
        recorder.number(numbered)
        first = 2 if hidden else 1
        before = inputs[first : first + len(state)]
        from_hidden = inputs[1] if hidden else None
        rest = inputs[first + len(state) :]
        try:
            with torch.enable_grad(), recorder:
                new = activate(stand_ins, inputs[0], from_hidden, before, *rest)
            results = [recorder.names_of(part) for part in new]
        except UntraceableError:
            raise
        except Exception as error:
            raise UntraceableError(f"activate cannot be traced: {error}") from error
        if any(len(names) != 1 for names in results) or len(results) != len(state):
            raise UntraceableError(
                "activate: expected it to return a state with the structure of its argument, got "
                f"parts of {[len(names) for names in results]} x H columns"
            )
        read = [name for name in parameters if name in recorder.read]
        count = sum(len(parameters[name]) // hidden_size for name in read)
        returned = [names[0] for names in results]
        return recorder.write.program(gates, hidden, len(state), count, returned), read

    program, read = record(list(parameters), rows=2)
    if read != list(parameters):  # only parameters that are read are numbered
        program, _ = record(read, rows=2)
    if record(read, rows=3)[0] != program:
        raise UntraceableError("activate depends on the number of rows in the batch")
    return program, read


def _check_numbers(name: str, value: Tensor, hidden_size: int) -> None:
    if value.dim() != 1 or len(value) % hidden_size:
        raise UntraceableError(
            f"{name}: expected a vector of one or more numbers per unit (H={hidden_size}), "
            f"got shape {tuple(value.shape)}"
        )


def _names(kind: str, count: int) -> list[str]:
    return [f"{kind}{n}" for n in range(count)]


class _Recorder(TorchDispatchMode):
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


def _constant(number: Any) -> str:
    if not isinstance(number, (bool, int, float)) or not math.isfinite(number):
        raise UntraceableError(f"activate: expected finite numbers, got {number}")
    return repr(float(number))
