"""From a `Program` to the C++ of its functor, as native/cells.hpp describes it."""

from __future__ import annotations

from typing import NamedTuple

from seqcells.kernels.program import COSTLY, Program, differentiate, is_number

_EXPRESSIONS = {
    "add": "{} + {}",
    "sub": "{} - {}",
    "mul": "{} * {}",
    "div": "{} / {}",
    "neg": "-{}",
    "abs": "{0} < V{{}} ? -{0} : {0}",
    "exp": "exp<T>({})",
    "sigmoid": "sigmoid<T>({})",
    "tanh": "tanh<T>({})",
    "softplus": "softplus<T>({})",
    "relu": "{0} < V{{}} ? V{{}} : {0}",
    "where_positive": "{0} > V{{}} ? {1} : {2}",
}


class Slots(NamedTuple):
    """Which sums a step needs: where a gate reads but the sum of its products, one is enough."""

    separate: tuple[int, ...] = ()
    shared: tuple[int, ...] = ()
    inward: tuple[int, ...] = ()  # of gates without a product with the hidden state

    @property
    def count(self) -> int:
        return len(self.separate) + len(self.inputs)

    @property
    def inputs(self) -> tuple[int, ...]:
        return self.separate + self.shared + self.inward

    @property
    def hidden(self) -> tuple[int, ...]:
        return self.shared + self.separate

    def of(self, kind: str, gate: int) -> int:
        """The slot of `x<gate>` or `h<gate>`."""
        if gate in self.shared or kind == "x":
            return self.inputs.index(gate)
        return len(self.separate) + self.hidden.index(gate)


def slots_of(program: Program) -> Slots:
    if not program.hidden:
        return Slots(inward=tuple(range(program.gates)))
    alone = set()
    for operation, *operands in program.values:
        gates = {name[1:] for name in operands if name[0] in "xh"}
        if operation != "add" or len(gates) != 1 or any(name[0] not in "xh" for name in operands):
            alone |= gates
    alone |= {name[1:] for name in program.results if name[0] in "xh"}
    separate = tuple(gate for gate in range(program.gates) if str(gate) in alone)
    return Slots(separate, tuple(gate for gate in range(program.gates) if gate not in separate))


class Functor:
    """The C++ of a program: `str` writes the struct; `kept` values a unit and step are kept.

    One that `projects` can compute the hidden state again out of what is kept.
    """

    def __init__(self, name: str, program: Program, projects: bool = False) -> None:
        self.name = name
        self.program = program
        self.projects = projects
        self.slots = slots_of(program)
        writer, self._gradients = differentiate(program)
        self._values = writer.values
        self._saved = list(dict.fromkeys(program.results[1:]))
        self._reads_after = False
        for needed in self._needed():
            self._provide(needed)

    @property
    def kept(self) -> int:
        return len(self._saved)

    def __str__(self) -> str:
        program, slots = self.program, self.slots
        slot_counts = (slots.count, len(slots.inputs), len(slots.hidden))
        sizes = {
            **dict(zip(("slots", "input_slots", "hidden_slots"), slot_counts)),
            "states": program.states,
            "parameters": program.parameters,
            "kept": self.kept,
            "kept_cell": self._saved.index(program.results[1]) if program.states > 1 else 0,
        }
        flags = {"reads_after": self._reads_after, "projects": self.projects}
        return "\n".join(
            [
                "template <class T>",
                f"struct {self.name} : Plain {{",
                "  using V = Vec<T>;",
                *(f"  static constexpr int {name} = {n};" for name, n in sizes.items()),
                *(
                    f"  static constexpr bool {name} = {str(n).lower()};"
                    for name, n in flags.items()
                ),
                f"  static constexpr int {_list('input_gates', slots.inputs)};",
                f"  static constexpr int {_list('hidden_gates', slots.hidden or (0,))};",
                "",
                *self._forward(),
                "",
                *self._backward(),
                *(self._unprojected() if self.projects else ()),
                "};",
            ]
        )

    def _forward(self) -> list[str]:
        body = _Body(self._values, self._sums() | self._parameters(), self._state("state"))
        new = [f"state[{n}] = {body.take(name)}" for n, name in enumerate(self.program.results)]
        keep = [f"keep[{n}] = {body.take(name)}" for n, name in enumerate(self._saved)]
        head = "static void forward(const V *z, V *state, const V *p, V *keep)"
        return _function(head, [*body.lines, *new, *keep])

    def _backward(self) -> list[str]:
        grads = {f"g{n}": f"grad[{n}]" for n in range(self.program.states)}
        body = _Body(self._values, self._kept() | self._parameters() | self._state("before"), grads)
        found = {}
        for kind, gates in (("x", self.slots.inputs), ("h", self.slots.separate)):
            for gate in gates:
                found[f"dz[{self.slots.of(kind, gate)}]"] = f"{kind}{gate}"
        found |= {f"dp[{n}]": f"p{n}" for n in range(self.program.parameters)}
        found |= {f"grad[{n}]": f"s{n}" for n in range(self.program.states)}
        out = [f"{to} = {body.take(self._gradients[name])}" for to, name in found.items()]
        head = (
            "static void backward(const V *keep, const V *before, const V *after, const V *p, "
            "V *grad, V *dz,\n                       V *dp)"
        )
        return _function(head, [*body.lines, *out])

    def _unprojected(self) -> list[str]:
        body = _Body(self._values, self._kept(), {})
        result = body.take(self.program.results[0])
        head = "static V unprojected(const V *keep)"
        return ["", *_function(head, [*body.lines, f"return {result}"])]

    # The C++ of what a function is given, by its name in the program.

    def _state(self, name: str) -> dict[str, str]:
        return {f"s{n}": f"{name}[{n}]" for n in range(self.program.states)}

    def _parameters(self) -> dict[str, str]:
        return {f"p{n}": f"p[{n}]" for n in range(self.program.parameters)}

    def _sums(self) -> dict[str, str]:
        found = {}
        for gate in self.slots.separate:
            found |= {f"{kind}{gate}": f"z[{self.slots.of(kind, gate)}]" for kind in "xh"}
        found |= {f"x{gate}": f"z[{self.slots.of('x', gate)}]" for gate in self.slots.inward}
        for n, value in enumerate(self._values):
            if self._is_sum(value):
                found[f"v{n}"] = f"z[{self.slots.of('x', int(value[1][1:]))}]"
        return found

    def _kept(self) -> dict[str, str]:
        found = {self.program.results[0]: "after[0]"} if self._reads_after else {}
        return found | {name: f"keep[{n}]" for n, name in enumerate(self._saved)}

    def _is_sum(self, value: tuple[str, ...]) -> bool:
        return value[0] == "add" and value[1][0] == "x" and int(value[1][1:]) in self.slots.shared

    # What the backward pass keeps: what is costly to compute again, unless a part of the state
    # says it at once, and what nothing else that is kept says.

    def _needed(self) -> list[str]:
        """The forward values and sums that the gradient reads."""
        own = len(self.program.values)
        found: dict[str, None] = {}

        def visit(name: str) -> None:
            if name[0] in "xh" or (name[0] == "v" and int(name[1:]) < own):
                found[name] = None
            elif name[0] == "v":
                for operand in self._values[int(name[1:])][1:]:
                    visit(operand)

        for name in self._gradients.values():
            visit(name)
        return list(found)

    def _provide(self, name: str) -> None:
        if name in self._saved or name[0] in "spg" or is_number(name):
            return
        if name == self.program.results[0]:
            self._reads_after = True
            return
        lacking = self._lacking(name)
        if len(lacking) > 1 or lacking == {name}:
            self._saved.append(name)
        else:
            for lack in lacking:
                self._provide(lack)

    def _lacking(self, name: str) -> set[str]:
        """What would have to be kept to compute this value again."""
        if name in self._saved or name[0] in "spg" or is_number(name):
            return set()
        if name[0] in "xh":
            return {name}
        if name == self.program.results[0] and self._reads_after:
            return set()
        value = self._values[int(name[1:])]
        if self._is_sum(value):
            return {name}
        if value[0] in COSTLY and any(self._lacking(operand) for operand in value[1:]):
            return {name}
        return set().union(*(self._lacking(operand) for operand in value[1:]))


class _Body:
    """Lines of C++ that compute values, each when first taken.

    What is `overwritten` at the end is copied first.
    """

    def __init__(
        self,
        values: list[tuple[str, ...]],
        known: dict[str, str],
        overwritten: dict[str, str],
    ) -> None:
        self.values = values
        self.known = dict(known)
        self.overwritten = overwritten
        self.lines: list[str] = []

    def take(self, name: str) -> str:
        """The C++ of a value as a vector, a constant too."""
        if is_number(name):
            return "V{}" if float(name) == 0 else f"T({name}) - V{{}}"
        return self.read(name)

    def read(self, name: str) -> str:
        if is_number(name):
            return f"T({name})"
        if name not in self.known:
            expression = self.overwritten.get(name) or self.expression(*self.values[int(name[1:])])
            self.lines.append(f"const V {name} = {expression}")
            self.known[name] = name
        return self.known[name]

    def expression(self, operation: str, *operands: str) -> str:
        scalars = operation in ("add", "sub", "mul", "div", "neg")
        return _EXPRESSIONS[operation].format(*map(self.read if scalars else self.take, operands))


def _function(head: str, statements: list[str]) -> list[str]:
    return [f"  {head} {{", *(f"    {statement};" for statement in statements), "  }"]


def _list(name: str, numbers: tuple[int, ...]) -> str:
    return f"{name}[] = {{{', '.join(map(str, numbers))}}}"
