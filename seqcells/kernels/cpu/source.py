"""Write the C++ functor of a `Program`, as described in native/functor.hpp."""

from __future__ import annotations

from seqcells.equations.lowering import Lowered, Phase, Place
from seqcells.equations.operations import OPERATIONS
from seqcells.equations.program import Program
from seqcells.equations.slots import Slots
from seqcells.equations.step import step_of

_FORWARD = """template <class Phase>
  static void forward(Phase phase, const V *z, V *state, const V *p, V drop, V *saved, V *row,
                      V *temp, const V *mean, V *sum, V *operand)"""
_BACKWARD = """template <class Phase>
  static void backward(Phase phase, const V *saved, const V *row, const V *before, const V *after,
                       const V *p, V drop, V *grad, V *dz, V *dp, V *temp, const V *mean, V *sum,
                       V *operand, const V *e)"""


class Functor:
    """The C++ functor of a program. `str` returns the struct.

    With `projects`, it also recomputes the hidden state before the projection from saved values.
    """

    def __init__(self, name: str, program: Program, projects: bool = False) -> None:
        self.name = name
        self.program = program
        self.projects = projects
        self.step = step_of(program)

    def __str__(self) -> str:
        program, step, slots = self.program, self.step, self.step.slots
        directions = {"forward": step.forward, "backward": step.backward}
        sizes = {
            "slots": slots.total,
            "input_slots": len(slots.inputs),
            "hidden_slots": len(slots.hidden),
            "states": program.states,
            "parameters": program.parameters,
            "saved": step.saved,
            "rows": step.rows,
        }
        lists: dict[str, tuple[int, ...] | list[int]] = {
            "input_gates": slots.inputs,
            "hidden_gates": slots.hidden,
        }
        if stages := len(program.stages):
            sizes["stages"] = stages
            lists["forward_part"] = step.forward.parts
            lists["backward_part"] = step.backward.parts
            for name, direction in directions.items():
                lists[f"{name}_operand_phase"] = direction.phases_of("operand", stages)
        if program.states > 1:
            lists["saved_states"] = step.saved_states
        for name, direction in directions.items():
            if len(direction.phases) > 1:
                sizes |= {
                    f"{name}_phases": len(direction.phases),
                    f"{name}_temps": len(direction.temps),
                    f"{name}_means": len(direction.means),
                }
                lists |= {
                    f"{name}_temp_phase": direction.temps,
                    f"{name}_mean_phase": direction.means,
                }
        if len(step.forward.phases) > 1:
            lists["saved_phase"] = step.forward.phases_of("saved", step.saved)
            lists["row_phase"] = step.forward.phases_of("row", step.rows)
        if len(step.backward.phases) > 1:
            lists["dz_phase"] = step.backward.phases_of("dz", slots.total)
            lists["dp_phase"] = step.backward.phases_of("dp", program.parameters)
        flags = {
            "reads_new_hidden": step.reads_new_hidden,
            "projects": self.projects,
            "takes_drop": program.takes_drop,
        }
        flags = {name: flag for name, flag in flags.items() if flag or name == "reads_new_hidden"}
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
                *(f"  static constexpr int {_list(*item)};" for item in lists.items()),
                f"  static constexpr Slots products[] = {_products(slots)};",
                "",
                *_function(_FORWARD, step.forward),
                "",
                *_function(_BACKWARD, step.backward),
                *(self._unprojected() if self.projects else ()),
                "};",
            ]
        )

    def _unprojected(self) -> list[str]:
        *lines, result = _statements(self.step.unprojected().phases[0])
        result = result.replace("result[0] =", "return")
        return ["", "  static V unprojected(const V *saved) {", *_indented([*lines, result]), "  }"]


def _function(head: str, direction: Lowered) -> list[str]:
    lines = [f"  {head} {{"]
    if len(direction.phases) == 1:
        return [*lines, *_indented(_statements(direction.phases[0])), "  }"]
    for number, phase in enumerate(direction.phases):
        lines.append(f"    if constexpr (phase == {number}) {{")
        lines += ["  " + line for line in _indented(_statements(phase))]
        lines.append("    }")
    return [*lines, "  }"]


def _statements(phase: Phase) -> list[str]:
    lines = []
    for number, operation, operands in phase.values:
        row = OPERATIONS[operation]
        read = _operand if row.accepts_scalars else _vector
        lines.append(f"const V v{number} = {row.cpp.format(*map(read, operands))}")
    # Copy operands that a store overwrites.
    copies = {place for _, place in phase.stores if place[0] in ("state", "grad")}
    lines += [f"const V {kind}_{n} = {kind}[{n}]" for kind, n in sorted(copies)]
    for target, place in phase.stores:
        value = f"{place[0]}_{place[1]}" if place in copies else _vector(place)
        lines.append(f"{_operand(target)} = {value}")
    return lines


def _operand(place: Place) -> str:
    kind, index = place
    if kind == "number":
        return f"T({index!r})"
    if kind == "v":
        return f"v{index}"
    return kind if kind == "drop" else f"{kind}[{index}]"


def _vector(place: Place) -> str:
    """Return the C++ of a value as a vector, also if it is a constant."""
    if place[0] != "number":
        return _operand(place)
    return "V{}" if place[1] == 0 else f"{_operand(place)} - V{{}}"


def _indented(statements: list[str]) -> list[str]:
    return [f"    {statement};" for statement in statements]


def _products(slots: Slots) -> str:
    return f"{{{', '.join(f'{{{first}, {count}}}' for first, count in slots.ranges())}}}"


def _list(name: str, numbers: tuple[int, ...] | list[int]) -> str:
    return f"{name}[] = {{{', '.join(map(str, numbers or (0,)))}}}"


def struct_name(kernel: str) -> str:
    """Return the name of the functor of a built-in kernel."""
    return kernel.title().replace("_", "")


def source_of(functors: dict[str, Functor]) -> str:
    """Return a header with these functors, in the format of native/generated.hpp."""
    cells = " \\\n  ".join(f"_({functor.name})" for functor in functors.values())
    parts = []
    for functor in functors.values():
        comment = "\n".join(f"// {line}" for line in str(functor.program).split("\n"))
        parts.append(f"{comment}\n{functor}\n")
    return "\n".join(
        [
            "// Written by cells/write_kernels.py from the cells' equations: `make kernels`.",
            "#pragma once",
            '#include "functor.hpp"',
            "",
            f"#define SEQCELLS_CELLS(_) \\\n  {cells}",
            "",
            "namespace SEQCELLS_VARIANT {",
            "",
            *parts,
            "}  // namespace SEQCELLS_VARIANT",
            "",
        ]
    )
