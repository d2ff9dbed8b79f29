"""Write recurrences as ONNX `Scan` nodes, whose body is one step of the kernel's program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from seqcells.equations.program import Program, is_number
from seqcells.equations.slots import product_names, slots_of
from seqcells.lab.export.directions import Direction
from seqcells.lab.export.graph import Graph, GraphProto

# ONNX operators with the meaning of one operation of a program.
OPERATORS = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "neg": "Neg",
    "abs": "Abs",
    "exp": "Exp",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "relu": "Relu",
    "softplus": "Softplus",
    "sqrt": "Sqrt",
}

# Operations of several ONNX nodes. Values are `(B, H)`, or `(1, H)`, `(B, 1)`, `(1, 1)` if they are
# equal for all rows or units; the last dimension is always that of the units.
COMPOSITE: dict[str, Callable[..., str]] = {
    "rsqrt": lambda graph, a: graph.node("Reciprocal", graph.node("Sqrt", a)),
    "mean": lambda graph, a: graph.node("ReduceMean", a, graph.constant([-1]), keepdims=1),
    "where_positive": lambda graph, a, b, c: graph.node(
        "Where", graph.node("Greater", a, graph.constant(0.0)), b, c
    ),
}


def add_scan(
    graph: Graph, direction: Direction, inputs: str, state: list[str], valid: str = ""
) -> tuple[str, list[str]]:
    """Add a recurrence over `inputs (T, B, I)` from the parts of a state, each `(B, H)`.

    `valid (T, B, 1)` is false at padding: there, outputs are zero and the state is unchanged.

    Returns:
        The outputs `(T, B, H)` and the parts of the final state.
    """
    step = _Step(graph.body(), direction)
    from_inputs = graph.node("MatMul", inputs, graph.constant(step.input_weight().T))
    if (bias := step.input_bias()) is not None:
        from_inputs = graph.node("Add", from_inputs, graph.constant(bias))
    scanned = [from_inputs, *([valid] if valid else [])]
    backward = int(direction.reverse)
    *final, outputs = graph.nodes(
        len(state) + 1,
        "Scan",
        *state,
        *scanned,
        body=step.write(masked=bool(valid)),
        num_scan_inputs=len(scanned),
        scan_input_directions=[backward] * len(scanned),
        scan_output_directions=[backward],
    )
    return outputs, final


class _Product(NamedTuple):
    """The gates of one product with W_hh.

    `added` states whether each gate only adds its product with the input. Then one Gemm adds both.
    """

    gates: tuple[int, ...]
    added: bool


def _products(program: Program) -> list[_Product]:
    """Return the product with the hidden state, and that of each stage of late products.

    Without W_hh, the only product has all gates.
    """
    if not program.hidden:
        return [_Product(tuple(range(program.gates)), False)]
    slots = slots_of(program)
    return [
        _Product(tuple(sorted(gates)), bool(gates) and {*gates} <= {*slots.shared})
        for gates in slots.stages
    ]


class _Step:
    """Writes one step of a direction to a graph: the body of a `Scan`.

    The body reads the parts of the state and the product with the input, and returns the parts of
    the new state and the output. The gates of the product with the input are in the order of
    `_products`, so that each product with W_hh adds to adjacent columns.
    """

    def __init__(self, graph: Graph, direction: Direction) -> None:
        self.graph = graph
        self.direction = direction
        self._numbers: dict[float, str] = {}
        self._program = program = direction.kernel.program
        self._late = product_names(program)
        self._products = _products(program)
        inputs = range(program.inputs)
        self._inputs = [[gate for gate in gates if gate in inputs] for gates, _ in self._products]
        self._order = [gate for gates in self._inputs for gate in gates]
        self._added = {f"x{gate}" for gates, added in self._products if added for gate in gates}
        self._addends: list[str] = []  # the columns of the input product, by product with W_hh

    def input_weight(self) -> Tensor:
        """Return the weight of the product with the input."""
        return self._rows(self.direction.weights.weight_ih, self._order)

    def input_bias(self) -> Tensor | None:
        """Return the bias to add before the `Scan`: of the input, or of both added products."""
        weights, H = self.direction.weights, self.direction.hidden_size
        added = [gate for gates, added in self._products if added for gate in gates]
        bias_hh = weights.bias_hh if added else None
        if weights.bias_ih is None and bias_hh is None:
            return None
        bias = weights.weight_ih.new_zeros(self._program.gates, H)
        if weights.bias_ih is not None:
            bias[: self._program.inputs] = weights.bias_ih.view(-1, H)
        if bias_hh is not None:
            bias[added] += bias_hh.view(-1, H)[added]
        return bias[self._order].flatten()

    def _rows(self, weight: Tensor, gates: Sequence[int]) -> Tensor:
        """Return the rows of these gates."""
        return weight.unflatten(0, (-1, self.direction.hidden_size))[[*gates]].flatten(0, 1)

    def write(self, masked: bool) -> GraphProto:
        """Return the body. With `masked`, it also reads whether each row is valid."""
        graph, direction = self.graph, self.direction
        shapes: list[list[str | int]] = [["batch", part.shape[1]] for part in direction.start]
        before = [graph.input(f"state_{n}", torch.float32, shape) for n, shape in enumerate(shapes)]
        width = direction.weights.weight_ih.shape[0]
        from_input = graph.input("from_input", torch.float32, ["batch", width])
        valid = graph.input("valid", torch.bool, ["batch", 1]) if masked else ""
        results = self._results(from_input, before)
        if (projection := direction.weights.weight_hr) is not None:
            results[0] = graph.node("Gemm", results[0], graph.constant(projection), transB=1)
        if direction.zone:
            results = [*map(self._zoneout, direction.zone, before, results)]
        output = results[0]
        if masked:
            output = graph.node("Where", valid, output, self._number(0.0))
            results = [graph.node("Where", valid, new, old) for new, old in zip(results, before)]
        for n, (result, shape) in enumerate(zip(results, shapes)):
            graph.output(result, f"new_state_{n}", shape)
        graph.output(output, "output", shapes[0])
        built_in = direction.kernel.number is not None
        return graph.proto(f"{direction.kernel.name if built_in else 'cell'}_step")

    def _results(self, from_input: str, before: list[str]) -> list[str]:
        """Write a step from the program."""
        program = self._program
        known = self._known(from_input, before)
        full = {name for name in known if name[0] in "xhs"}  # values `(B, H)`
        stages = {stage.operand: n for n, stage in enumerate(program.stages, 1)}
        for n, (operation, *operands) in enumerate(program.values):
            name = f"v{n}"
            if operation == "product":
                operand = operands[1]
                if (stage := stages.pop(operand, None)) is not None:
                    whole = self._whole(known[operand], before[-1], operand in full)
                    known |= self._product(stage, whole)
                full.add(name)
            elif operation == "add" and operands[0] in self._added:
                known[name] = known[operands[1]]  # the Gemm has added both
                full.add(name)
            else:
                read = [self._operand(known, operand) for operand in operands]
                known[name] = self._operation(operation, *read)
                if operation != "mean" and not full.isdisjoint(operands):
                    full.add(name)
        return [
            self._whole(self._operand(known, result), part, result in full)
            for result, part in zip(program.results, before)
        ]

    def _whole(self, value: str, part: str, full: bool) -> str:
        """Expand a value that is equal for all rows or units to the shape of a state's part."""
        return value if full else self.graph.node("Expand", value, self.graph.node("Shape", part))

    def _known(self, from_input: str, before: list[str]) -> dict[str, str]:
        """Return the operands of the program except late products and input products to be added.

        Adds only constants that the program reads, because runtimes warn of others.
        """
        program = self._program
        read = {name for value in program.values for name in _operands(value)} | {*program.results}
        known = {f"s{n}": part for n, part in enumerate(before)}
        parameters = self.direction.weights.parameters
        for n, row in enumerate(() if parameters is None else parameters.split(1)):
            if f"p{n}" in read:
                known[f"p{n}"] = self.graph.constant(row)
        if "d0" in read:
            known["d0"] = self._factor()
        self._addends = self._divide(from_input)
        for gates, addend in zip(self._inputs, self._addends):
            names = [f"x{gate}" for gate in gates]
            if not read.isdisjoint(names) and self._added.isdisjoint(names):
                known |= zip(names, self.graph.split(addend, len(names), axis=-1))
        if any(f"h{gate}" in read for gate in self._products[0].gates):
            known |= self._product(0, before[0])
        return known

    def _divide(self, from_input: str) -> list[str]:
        """Divide the product with the input; return the columns of each product with W_hh."""
        sizes = [len(gates) * self.direction.hidden_size for gates in self._inputs]
        count = sum(map(bool, sizes))
        if count <= 1:
            return [from_input] * len(sizes)
        given = self.graph.constant([*filter(None, sizes)])
        parts = iter(self.graph.nodes(count, "Split", from_input, given, axis=-1))
        return [next(parts) if size else "" for size in sizes]

    def _product(self, number: int, operand: str) -> dict[str, str]:
        """Add one Gemm for a product with W_hh; return the gates' products by name.

        Those of added gates include the product with the input.
        """
        gates, added = self._products[number]
        weights = self.direction.weights
        operands = [operand, self.graph.constant(self._rows(weights.weight_hh, gates))]
        if added:
            operands.append(self._addends[number])
        elif weights.bias_hh is not None:
            operands.append(self.graph.constant(self._rows(weights.bias_hh, gates)))
        product = self.graph.node("Gemm", *operands, transB=1)
        names = [self._late.get(gate, f"h{gate}") for gate in gates]
        return dict(zip(names, self.graph.split(product, len(gates), axis=-1)))

    def _operation(self, name: str, *operands: str) -> str:
        if name in COMPOSITE:
            return COMPOSITE[name](self.graph, *operands)
        return self.graph.node(OPERATORS[name], *operands)

    def _operand(self, known: dict[str, str], name: str) -> str:
        if is_number(name):
            return self._number(float(name))
        return known[name]

    def _factor(self) -> str:
        drop = self.direction.drop
        return self._number(1.0) if drop is None else self.graph.constant(drop)

    def _zoneout(self, share: Tensor, before: str, after: str) -> str:
        """Add `share * before + (1 - share) * after`."""
        kept = self.graph.node("Mul", self.graph.constant(share), before)
        new = self.graph.node("Mul", self.graph.constant(1 - share), after)
        return self.graph.node("Add", kept, new)

    def _number(self, number: float) -> str:
        """Return a constant `(1, 1)`, which reductions over the units accept."""
        if number not in self._numbers:
            self._numbers[number] = self.graph.constant(torch.full((1, 1), number))
        return self._numbers[number]


def _operands(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return the operands of a value without the weights of a late product."""
    return value[2:] if value[0] == "product" else value[1:]
