"""Write recurrences as ONNX `Scan` nodes, whose body is one step of the kernel's program."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seqcells.equations.program import Program, is_number
from seqcells.equations.slots import slots_of
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
    weights, step = direction.weights, _Step(graph.body(), direction)
    from_inputs = graph.node("MatMul", inputs, graph.constant(weights.weight_ih.T))
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


class _Step:
    """Writes one step of a direction to a graph: the body of a `Scan`.

    The body reads the parts of the state and the product with the input, and returns the parts of
    the new state and the output.
    """

    def __init__(self, graph: Graph, direction: Direction) -> None:
        self.graph = graph
        self.direction = direction
        self._numbers: dict[float, str] = {}
        kernel = direction.kernel
        slots = None if kernel.handwritten else slots_of(kernel.program)
        # Whether every gate only adds its two products. Then one Gemm adds all of them.
        self._added = slots is not None and kernel.hidden and not slots.separate

    def input_bias(self) -> Tensor | None:
        """Return the bias to add before the `Scan`: of the input, or of both added products."""
        weights = self.direction.weights
        biases = [weights.bias_ih, *([weights.bias_hh] if self._added else [])]
        given = [bias for bias in biases if bias is not None]
        return torch.stack(given).sum(0) if given else None

    def write(self, masked: bool) -> GraphProto:
        """Return the body. With `masked`, it also reads whether each row is valid."""
        graph, direction = self.graph, self.direction
        shapes: list[list[str | int]] = [["batch", part.shape[1]] for part in direction.start]
        before = [graph.input(f"state_{n}", torch.float32, shape) for n, shape in enumerate(shapes)]
        width = direction.weights.weight_ih.shape[0]
        from_input = graph.input("from_input", torch.float32, ["batch", width])
        valid = graph.input("valid", torch.bool, ["batch", 1]) if masked else ""
        handwritten = direction.kernel.handwritten
        results = (self._reset_before if handwritten else self._program)(from_input, before)
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

    def _program(self, from_input: str, before: list[str]) -> list[str]:
        """Write a step from the program."""
        program = self.direction.kernel.program
        known = self._inputs(program, from_input, before)
        full = {name for name in known if name[0] in "xhs"}  # values `(B, H)`
        if self._added:
            sums = self._gates(self._hidden_product(before[0], from_input))
            products = {("add", f"x{n}", f"h{n}"): value for n, value in enumerate(sums)}
        else:
            products = {}
        for n, value in enumerate(program.values):
            operation, *operands = value
            if value in products:
                known[f"v{n}"] = products[value]
                full.add(f"v{n}")
                continue
            read = [self._operand(known, operand) for operand in operands]
            known[f"v{n}"] = self._operation(operation, *read)
            if operation != "mean" and not full.isdisjoint(operands):
                full.add(f"v{n}")
        results = []
        for result, part in zip(program.results, before):
            value = self._operand(known, result)
            if result not in full:  # equal for all rows or units
                value = self.graph.node("Expand", value, self.graph.node("Shape", part))
            results.append(value)
        return results

    def _inputs(self, program: Program, from_input: str, before: list[str]) -> dict[str, str]:
        """Return the operands of the program except the products that are added.

        Adds only constants that the program reads, because runtimes warn of others.
        """
        read = {operand for value in program.values for operand in value[1:]} | {*program.results}
        known = {f"s{n}": part for n, part in enumerate(before)}
        parameters = self.direction.weights.parameters
        for n, row in enumerate(() if parameters is None else parameters.split(1)):
            if f"p{n}" in read:
                known[f"p{n}"] = self.graph.constant(row)
        if "d0" in read:
            known["d0"] = self._factor()
        if self._added:
            return known
        products = {"x": lambda: from_input, "h": lambda: self._hidden_product(before[0])}
        for kind, product in products.items():
            if any(name[0] == kind for name in read):
                known |= {f"{kind}{n}": gate for n, gate in enumerate(self._gates(product()))}
        return known

    def _operation(self, name: str, *operands: str) -> str:
        if name in COMPOSITE:
            return COMPOSITE[name](self.graph, *operands)
        return self.graph.node(OPERATORS[name], *operands)

    def _operand(self, known: dict[str, str], name: str) -> str:
        if is_number(name):
            return self._number(float(name))
        return known[name]

    def _reset_before(self, from_input: str, before: list[str]) -> list[str]:
        """Write a step of a GRU or MGU whose reset acts before the candidate's product.

        The equations are those of `reset_before_step`.
        """
        graph, weights, (hidden,) = self.graph, self.direction.weights, before
        units = self.direction.hidden_size
        parts = (weights.weight_hh.shape[0] - units, units)
        sizes = graph.constant([*parts])
        input_gates, input_candidate = graph.nodes(2, "Split", from_input, sizes, axis=-1)
        weight_gates, weight_candidate = weights.weight_hh.split(parts)
        biases = [None, None] if weights.bias_hh is None else weights.bias_hh.split(parts)

        def add_product(value: str, weight: Tensor, bias: Tensor | None, addend: str) -> str:
            product = graph.node("Gemm", value, graph.constant(weight), addend, transB=1)
            return product if bias is None else graph.node("Add", product, graph.constant(bias))

        gates = add_product(hidden, weight_gates, biases[0], input_gates)
        gate, *update = graph.split(
            graph.node("Sigmoid", gates), len(weight_gates) // units, axis=-1
        )
        reset = graph.node("Mul", gate, hidden)
        candidate = add_product(reset, weight_candidate, biases[1], input_candidate)
        candidate = graph.node("Tanh", candidate)
        if self.direction.drop is not None:
            candidate = graph.node("Mul", candidate, self._factor())
        complement = graph.node("Sub", self._number(1.0), *(update or [gate]))
        keep, replace = (update[0], complement) if update else (complement, gate)
        kept = graph.node("Mul", keep, hidden)
        return [graph.node("Add", graph.node("Mul", replace, candidate), kept)]

    def _hidden_product(self, hidden: str, addend: str = "") -> str:
        """Add the product of the hidden state, plus `addend` or the bias."""
        weights = self.direction.weights
        operands = [hidden, self.graph.constant(weights.weight_hh)]
        if addend:
            operands.append(addend)
        elif weights.bias_hh is not None:
            operands.append(self.graph.constant(weights.bias_hh))
        return self.graph.node("Gemm", *operands, transB=1)

    def _gates(self, product: str) -> list[str]:
        return self.graph.split(product, self.direction.kernel.gates, axis=-1)

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
