"""From a cell's `activate` to its `Program`."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from seqcells.kernels.program import Program, UntraceableError, Writer

aten = torch.ops.aten

# The operators of PyTorch that a program can say, with its own operation of the same operands.
SAME = {
    aten.add.Tensor: "add",
    aten.add.Scalar: "add",
    aten.sub.Tensor: "sub",
    aten.sub.Scalar: "sub",
    aten.mul.Tensor: "mul",
    aten.mul.Scalar: "mul",
    aten.div.Tensor: "div",
    aten.div.Scalar: "div",
    aten.neg.default: "neg",
    aten.abs.default: "abs",
    aten.exp.default: "exp",
    aten.sigmoid.default: "sigmoid",
    aten.tanh.default: "tanh",
    aten.relu.default: "relu",
    aten.softplus.default: "softplus",
    aten.sqrt.default: "sqrt",
    aten.rsqrt.default: "rsqrt",
}

# Those that are several operations of a program.
SEVERAL: dict[Any, Callable[..., str]] = {
    aten.rsub.Scalar: lambda w, a, b: w("sub", b, a),
    aten.reciprocal.default: lambda w, a: w("div", "1.0", a),
    aten.square.default: lambda w, a: w("mul", a, a),
    aten.pow.Tensor_Scalar: lambda w, a, n: _power(w, a, n),
    aten.silu.default: lambda w, a: w("mul", a, w("sigmoid", a)),
    aten.leaky_relu.default: lambda w, a, slope="0.01": w(
        "where_positive", a, a, w("mul", a, slope)
    ),
    aten.elu.default: lambda w, a, alpha="1.0": w(
        "where_positive", a, a, w("mul", alpha, w("sub", w("exp", a), "1.0"))
    ),
    aten.clamp.default: lambda w, a, low=None, high=None: _clamped(w, a, low, high),
    aten.clamp_min.default: lambda w, a, low: _clamped(w, a, low, None),
    aten.clamp_max.default: lambda w, a, high: _clamped(w, a, None, high),
    aten.hardtanh.default: lambda w, a, low="-1.0", high="1.0": _clamped(w, a, low, high),
    aten.maximum.default: lambda w, a, b: w("where_positive", w("sub", a, b), a, b),
    aten.minimum.default: lambda w, a, b: w("where_positive", w("sub", a, b), b, a),
}

# Those over a row.
REDUCTIONS = (aten.mean.dim, aten.sum.dim_IntList, aten.native_layer_norm.default)

# Those that only move units about.
MOVES = (aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default, aten.cat.default)
SLICES = (aten.slice.Tensor, aten.clone.default, aten.alias.default, operator.getitem)

_ALL = (*SAME, *SEVERAL, *REDUCTIONS, *MOVES, aten.slice.Tensor)
KNOWN = ", ".join(sorted({str(op).split(".")[1].removeprefix("native_") for op in _ALL}))


def program_of(
    activate: Callable[..., Any],
    gates: int,
    hidden: bool,
    hidden_size: int,
    state: Sequence[Tensor],
    form: Callable[[list[Tensor]], Any],
    parameters: dict[str, nn.Parameter],
    drop: bool,
) -> tuple[Program, list[str]]:
    """The program of `activate(parameters, from_input, from_hidden, state)`, and what it reads.

    Args:
        activate: a function that returns the next state and the gates.
        hidden: whether there is a product with the hidden state; `from_hidden` is None if not.
        state: parts of the state, each `(2, H)`.
        drop: whether `activate` takes a factor on the candidate after the state.
        form: makes the state that `activate` takes out of its parts.
        parameters: those that `activate` may read, by name. Those that it does, whose names come
            back, are vectors of one or more numbers a unit.

    Raises:
        UntraceableError: an operator that no program can say, or shapes that are none of a gate's.
    """
    fused = state[0].new_zeros(2, gates * hidden_size)
    tensors = [fused, *([fused.clone()] if hidden else [])]
    factor = [torch.ones_like(state[0])] if drop else []
    tensors += [part.detach().clone() for part in (*state, *factor, *parameters.values())]
    parts = len(state) + drop

    def flat(from_input: Tensor, *rest: Tensor) -> list[Tensor]:
        from_hidden, *rest = rest if hidden else (None, *rest)
        before, given = list(rest[: len(state)]), dict(zip(parameters, rest[parts:]))
        new, _ = activate(given, from_input, from_hidden, form(before), *rest[len(state) : parts])
        return [new] if isinstance(new, Tensor) else list(new)

    try:
        graph = make_fx(flat)(*tensors).graph
    except UntraceableError:
        raise
    except Exception as error:
        raise UntraceableError(f"activate cannot be traced: {error}") from error
    inputs = [_names("x", gates), *([_names("h", gates)] if hidden else [])]
    inputs += [[f"s{n}"] for n in range(len(state))] + [["d0"]] * drop
    nodes = [node for node in graph.nodes if node.op == "placeholder"][len(inputs) :]
    read = {name: bool(node.users) for name, node in zip(parameters, nodes)}
    start = 0
    for name, value in parameters.items():
        count = _numbers_a_unit(name, value, hidden_size) if read[name] else 0
        inputs.append([f"p{start + n}" for n in range(count)])
        start += count
    write = Writer()
    results = _Reader(write, hidden_size, inputs).read(graph)
    if any(len(found) != 1 for found in results) or len(results) != len(state):
        raise UntraceableError(
            "activate: expected it to return a state of the form that it is given"
        )
    program = write.program(gates, hidden, len(state), start, [found[0] for found in results])
    return program, [name for name in parameters if read[name]]


def _numbers_a_unit(name: str, value: Tensor, hidden_size: int) -> int:
    if value.dim() != 1 or len(value) % hidden_size:
        raise UntraceableError(
            f"{name}: expected a vector of one or more numbers a unit (H={hidden_size}), "
            f"got shape {tuple(value.shape)}"
        )
    return len(value) // hidden_size


def _names(kind: str, count: int) -> list[str]:
    return [f"{kind}{n}" for n in range(count)]


class _Reader:
    """Reads a graph: a tensor is the list of the values that its blocks of H units hold."""

    def __init__(self, write: Writer, hidden_size: int, inputs: list[list[str]]) -> None:
        self.write = write
        self.hidden_size = hidden_size
        self.inputs = iter(inputs)
        self.known: dict[fx.Node, Any] = {}

    def read(self, graph: fx.Graph) -> list[list[str]]:
        for node in graph.nodes:
            if node.op == "placeholder":
                self.known[node] = next(self.inputs)
            elif node.op == "call_function":
                self.known[node] = self.call(node)
            elif node.op == "output":
                return [self.known[found] for found in node.args[0]]
            else:
                raise UntraceableError(
                    f"activate reads the tensor {node.target}, which is neither an argument nor a "
                    "parameter of the cell; make it a parameter, or a number"
                )
        raise AssertionError("a graph ends with its output")

    def call(self, node: fx.Node) -> Any:
        operands = [self.known.get(a, a) if isinstance(a, fx.Node) else a for a in node.args]
        target = node.target
        if target in MOVES or target in SLICES:
            return self.move(target, node, operands)
        if target is aten.log_sigmoid_forward.default:
            found = [self.write("softplus", self.write("neg", a)) for a in operands[0]]
            return [[self.write("neg", value) for value in found], None]
        if target in REDUCTIONS:
            return self.reduce(target, node, *operands)
        if target not in SAME and target not in SEVERAL:
            raise UntraceableError(f"activate calls {target}; a kernel is made of {KNOWN}")
        if node.kwargs:
            raise UntraceableError(f"activate calls {target} with {dict(node.kwargs)}")
        columns = [
            operand
            if isinstance(operand, list)
            else [None if operand is None else _constant(operand)]
            for operand in operands
        ]
        width = max(map(len, columns))  # one that is narrower is a number of the whole row
        if any(len(column) not in (1, width) for column in columns):
            raise UntraceableError(f"activate: {target} of parts of different widths")
        columns = [column * (width // len(column)) for column in columns]
        return [self.apply(target, list(column)) for column in zip(*columns)]

    def reduce(self, target: Any, node: fx.Node, source: list[str], *rest: Any) -> Any:
        """The mean or the sum of a row, or what layer normalisation makes of it."""
        write = self.write
        if target is aten.native_layer_norm.default:
            shape, gain, shift, epsilon = rest
            if list(shape) != [node.args[0].meta["val"].shape[-1]]:
                raise UntraceableError("activate: expected it to norm whole rows")
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
            self.along_units(node.args[0], dim)
        if not keepdim or node.kwargs:
            raise UntraceableError(f"activate: expected {target} with keepdim=True, and no dtype")
        mean = self.mean(source)
        if target is aten.mean.dim:
            return [mean]
        return [write("mul", mean, repr(float(node.args[0].meta["val"].shape[-1])))]

    def mean(self, values: list[str]) -> str:
        """Of a row of several blocks."""
        total = values[0]
        for value in values[1:]:
            total = self.write("add", total, value)
        if len(values) > 1:
            total = self.write("mul", repr(1 / len(values)), total)
        return self.write("mean", total)

    def apply(self, target: Any, operands: list[Any]) -> str:
        if target in SAME:
            return self.write(SAME[target], *operands)
        return SEVERAL[target](self.write, *operands)

    def move(self, target: Any, node: fx.Node, operands: list[Any]) -> Any:
        H = self.hidden_size
        source, *rest = operands
        if target is operator.getitem:
            return source[rest[0]]
        if target in (aten.clone.default, aten.alias.default):
            return source
        if target is aten.cat.default:
            self.along_units(node.args[0][0], rest[0] if rest else 0)
            return [name for part in source for name in self.known[part]]
        self.along_units(node.args[0], rest[0] if target is aten.slice.Tensor else (*rest, 0)[1])
        if target is aten.slice.Tensor:
            _, begin, end, *stride = (*rest, None, None)[:4]
            bounds = (begin or 0, min(end, len(source) * H) if end is not None else len(source) * H)
            if stride not in ([], [None], [1]) or any(bound % H for bound in bounds):
                raise UntraceableError("activate: expected slices of whole gates")
            return source[bounds[0] // H : bounds[1] // H]
        sizes = self.sizes(target, len(source) * H, rest[0])
        if any(size % H for size in sizes):
            raise UntraceableError("activate: expected it to split whole gates")
        parts, at = [], 0
        for size in sizes:
            parts.append(source[at : at + size // H])
            at += size // H
        return parts

    def sizes(self, target: Any, width: int, given: Any) -> list[int]:
        """Of the parts that splitting a width makes."""
        if isinstance(given, (list, tuple)):
            return list(given)
        size = -(-width // given) if target is aten.chunk.default else given
        return [min(size, width - at) for at in range(0, width, size)]

    def along_units(self, node: fx.Node, dim: int) -> None:
        rank = node.meta["val"].dim()
        if dim % rank != rank - 1:
            raise UntraceableError(
                f"activate: expected it to split along the units, got dimension {dim}"
            )


def _constant(number: Any) -> str:
    if not isinstance(number, (bool, int, float)) or not math.isfinite(number):
        raise UntraceableError(f"activate: expected finite numbers, got {number}")
    return repr(float(number))


def _power(write: Writer, value: str, exponent: str) -> str:
    whole = int(float(exponent))
    if whole != float(exponent) or not 1 <= whole <= 4:
        raise UntraceableError(f"activate: expected powers from 1 to 4, got {exponent}")
    result = value
    for _ in range(whole - 1):
        result = write("mul", result, value)
    return result


def _clamped(write: Writer, value: str, low: str | None, high: str | None) -> str:
    if low is not None:
        value = write("where_positive", write("sub", value, low), value, low)
    if high is not None:
        value = write("where_positive", write("sub", high, value), value, high)
    return value
