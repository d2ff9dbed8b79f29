"""Write the forward and backward step of a `Program` in Triton, on a tile of units `(R, U)`.

forward:   z, state, p, drop           -> new state, values saved per unit, values saved per row
backward:  saved, row, before, after,  -> gradient by z, gradient by p, gradient by the old state
           grad, p, drop                  without the part that passes through z

A program with stages of late products has two more functions, with the stage as last argument:

operand:        z, state, p, drop           -> operand of the stage, from the sums of earlier stages
late_gradient:  saved, row, before, after,  -> gradient by the sums of the stage, from the gradients
                grad, p, drop, e               `e` by the operands of later stages

Then `backward` reads `e` too, and also returns all operands. The functions recompute values that
they share; the compiler merges equal expressions.

native/functor.hpp explains these arguments. Only the first H of the tile's `units` exist. If
programs compute slices of the units, they exchange sums over whole rows through `group`.
"""

from __future__ import annotations

from seqcells.equations.lowering import Lowered, Place
from seqcells.equations.operations import OPERATIONS
from seqcells.equations.program import Program
from seqcells.equations.step import step_of

IMPORTS = """import triton
import triton.language as tl

from seqcells.kernels.triton.numerics import full_like, softplus, tanh
from seqcells.kernels.triton.cooperative import means
"""


def module_of(programs: dict[str, Program]) -> str:
    """Return the source of a module with the functions of all programs."""
    head = "# Written by cells/write_kernels.py from the cells' equations: `make kernels`.\n"
    head += f"# ruff: noqa\n# fmt: off\n{IMPORTS.rstrip()}"
    parts = [head, *map(source_of, programs, programs.values())]
    return "\n\n\n".join(parts) + "\n"


def source_of(name: str, program: Program) -> str:
    """Return the functions `<name>_forward` and `<name>_backward`, and those of the stages."""
    step, stages = step_of(program), range(len(program.stages))
    forward, backward = "z, state, p, drop", "saved, row, before, after, grad, p, drop"
    gradients: tuple[str, ...] = ("dz", "dp", "grad")
    if stages:
        backward, gradients = f"{backward}, e", (*gradients, "operand")
    functions = [
        _function(f"{name}_forward", forward, _body(step.forward, "state", "saved", "row")),
        _function(f"{name}_backward", backward, _body(step.backward, *gradients)),
    ]
    if stages:
        operands = [_body(step.operand(stage), "operand") for stage in stages]
        late = [_body(step.late_gradient(stage), "dz") for stage in stages]
        functions.append(_function_of_stages(f"{name}_operand", forward, operands))
        functions.append(_function_of_stages(f"{name}_late_gradient", backward, late))
    return "\n\n\n".join(functions)


def _function(name: str, arguments: str, body: list[str], last: str = "") -> str:
    head = f"@triton.jit\ndef {name}({arguments}, units, H: tl.constexpr, group{last}):"
    return "\n".join([head, *_indented(body)])


def _function_of_stages(name: str, arguments: str, bodies: list[list[str]]) -> str:
    """Return a function with a body for each stage."""
    lines = []
    for stage, body in enumerate(bodies):
        lines += [f"{'elif' if stage else 'if'} stage == {stage}:", *_indented(body)]
    return _function(name, arguments, lines, ", stage: tl.constexpr")


def _body(direction: Lowered, *returned: str) -> list[str]:
    return _Body("z[0]" if "dz" not in returned else "grad[0]").of(direction, returned)


class _Body:
    """The lines of a function. Phases follow each other, since a tile holds whole rows."""

    def __init__(self, like: str) -> None:
        self.like = like
        self.lines: list[str] = []
        self.computed: set[int] = set()
        self.temps: dict[float, Place] = {}
        self.rows: set[Place] = set()  # values that are equal for all units of a row
        self.results: dict[str, dict[float, str]] = {}
        self.sums: dict[float, str] = {}  # means requested in the current phase
        self.exchanges = 0

    def of(self, direction: Lowered, returned: tuple[str, ...]) -> list[str]:
        for phase in direction.phases:
            for value in phase.values:
                self.compute(*value)
            for (kind, index), place in phase.stores:
                self.store(kind, index, self.resolve_temp(place))
            self.take_means()
        return [*self.lines, f"return {', '.join(self.tuple(kind) for kind in returned)}"]

    def compute(self, number: int, operation: str, operands: list[Place]) -> None:
        if number in self.computed:
            return
        self.computed.add(number)
        operands = [self.resolve_temp(place) for place in operands]
        if all(map(self.is_row, operands)):
            self.rows.add(("v", number))
        expression = OPERATIONS[operation].triton.format(*map(_operand, operands))
        self.lines.append(f"v{number} = {expression}")

    def store(self, kind: str, index: float, place: Place) -> None:
        if kind == "temp":
            self.temps[index] = place
        elif kind == "sum":
            self.sums[index] = _operand(place)
        else:
            self.results.setdefault(kind, {})[index] = self.broadcast(kind, place)

    def take_means(self) -> None:
        """Compute all means that the phase requested, in one exchange."""
        if not self.sums:
            return
        names = _tuple([f"mean{number}" for number in self.sums])
        values, numbers = _tuple([*self.sums.values()]), _tuple([*map(str, self.sums)])
        self.lines.append(
            f"{names} = means({values}, {numbers}, units, H, group, {self.exchanges})"
        )
        self.exchanges += 1
        self.sums = {}

    def broadcast(self, kind: str, place: Place) -> str:
        """Return a result in the shape of the tile, or as one column if it is per row."""
        if place[0] == "number":
            return f"full_like({_operand(place)}, {self.like})"
        if kind != "row" and self.is_row(place):
            return f"tl.broadcast_to({_operand(place)}, {self.like}.shape)"
        return _operand(place)

    def tuple(self, kind: str) -> str:
        return _tuple([value for _, value in sorted(self.results.get(kind, {}).items())])

    def resolve_temp(self, place: Place) -> Place:
        return self.temps[place[1]] if place[0] == "temp" else place

    def is_row(self, place: Place) -> bool:
        return place[0] in ("mean", "row", "number") or place in self.rows


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _tuple(items: list[str]) -> str:
    return f"({', '.join(items)}{',' * (len(items) == 1)})"


def _operand(place: Place) -> str:
    kind, index = place
    if kind == "number":
        return repr(index)
    if kind in ("drop", "after"):
        return kind
    return f"{kind}{index}" if kind in ("v", "mean") else f"{kind}[{index}]"
