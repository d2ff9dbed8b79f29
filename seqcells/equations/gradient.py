"""The gradient of a `Program`."""

from __future__ import annotations

from seqcells.equations.operations import OPERATIONS
from seqcells.equations.program import Program, Writer, is_number


def differentiate(program: Program) -> tuple[Writer, dict[str, str]]:
    """Return the gradient, with `g0`, `g1`, ... the gradient by the parts of the new state.

    `e0`, `e1`, ... are the gradients by the operand of each stage: the gradients by the stage's
    late products, multiplied by the transposed weights.

    Returns:
        A writer with the values of the program and of its gradient, and the name of the gradient
        by each operand of the program.
    """
    write = Writer(program.values)
    gradients: dict[str, str] = {}
    first = {f"h{stage.gates[0]}": n for n, stage in enumerate(program.stages)}

    def add(name: str, gradient: str) -> None:
        if not is_number(name):
            before = gradients.get(name, "0.0")
            gradients[name] = write("add", before, gradient)

    for n, result in enumerate(program.results):
        add(result, f"g{n}")
    for n in reversed(range(len(program.values))):
        gradient = gradients.pop(f"v{n}", "0.0")
        operation, *operands = program.values[n]
        if operation == "product":
            weights, operand = operands
            gradients[weights] = gradient
            if weights in first:  # all other products of the stage come later
                add(operand, f"e{first[weights]}")
        elif gradient != "0.0":
            rule = OPERATIONS[operation].gradient
            for operand, part in zip(operands, rule(write, gradient, f"v{n}", *operands)):
                add(operand, part)
    names = [*program.sums, *(f"s{n}" for n in range(program.states))]
    names += [f"p{n}" for n in range(program.parameters)]
    return write, {name: gradients.get(name, "0.0") for name in names}
