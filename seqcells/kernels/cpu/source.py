"""Write the C++ functor of a `Program`, as native/cells.hpp describes it."""

from __future__ import annotations

from seqcells.equations.lowering import Lowered, Phase, Place
from seqcells.equations.operations import OPERATIONS
from seqcells.equations.program import Program
from seqcells.equations.step import step_of

_FORWARD = """template <class Phase>
  static void forward(Phase phase, const V *z, V *state, const V *p, V drop, V *keep, V *row,
                      V *temp, const V *mean, V *sum)"""
_BACKWARD = """template <class Phase>
  static void backward(Phase phase, const V *keep, const V *row, const V *before, const V *after,
                       const V *p, V drop, V *grad, V *dz, V *dp, V *temp, const V *mean, V *sum)"""


class Functor:
    """The C++ of a program: `str` writes the struct.

    With `projects`, it also recomputes the hidden state from the saved values.
    """

    def __init__(self, name: str, program: Program, projects: bool = False) -> None:
        self.name = name
        self.program = program
        self.projects = projects
        self.step = step_of(program)

    def __str__(self) -> str:
        program, step, slots = self.program, self.step, self.step.slots
        ways = {"forward": step.forward, "backward": step.backward}
        sizes = {
            "slots": slots.total,
            "input_slots": len(slots.inputs),
            "hidden_slots": len(slots.hidden),
            "states": program.states,
            "parameters": program.parameters,
            "kept": step.kept,
            "kept_cell": step.kept_cell,
            "rows": step.rows,
        }
        lists: dict[str, tuple[int, ...] | list[int]] = {
            "input_gates": slots.inputs,
            "hidden_gates": slots.hidden,
        }
        for name, way in ways.items():
            if len(way.phases) > 1:
                sizes |= {
                    f"{name}_phases": len(way.phases),
                    f"{name}_temps": len(way.temps),
                    f"{name}_means": len(way.means),
                }
                lists |= {f"{name}_temp_phase": way.temps, f"{name}_mean_phase": way.means}
        if len(step.forward.phases) > 1:
            lists["keep_phase"] = step.forward.phases_of("keep", step.kept)
            lists["row_phase"] = step.forward.phases_of("row", step.rows)
        if len(step.backward.phases) > 1:
            lists["dz_phase"] = step.backward.phases_of("dz", slots.total)
            lists["dp_phase"] = step.backward.phases_of("dp", program.parameters)
        flags = {
            "reads_after": step.reads_after,
            "projects": self.projects,
            "drops": program.drops,
        }
        flags = {name: flag for name, flag in flags.items() if flag or name == "reads_after"}
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
        return ["", "  static V unprojected(const V *keep) {", *_indented([*lines, result]), "  }"]


def _function(head: str, way: Lowered) -> list[str]:
    lines = [f"  {head} {{"]
    if len(way.phases) == 1:
        return [*lines, *_indented(_statements(way.phases[0])), "  }"]
    for number, phase in enumerate(way.phases):
        lines.append(f"    if constexpr (phase == {number}) {{")
        lines += ["  " + line for line in _indented(_statements(phase))]
        lines.append("    }")
    return [*lines, "  }"]


def _statements(phase: Phase) -> list[str]:
    lines = []
    for number, operation, operands in phase.values:
        row = OPERATIONS[operation]
        read = _read if row.scalars else _take
        lines.append(f"const V v{number} = {row.cpp.format(*map(read, operands))}")
    # Targets that overwrite an operand come after all reads.
    copies = {place for _, place in phase.stores if place[0] in ("state", "grad")}
    lines += [f"const V {kind}_{n} = {kind}[{n}]" for kind, n in sorted(copies)]
    for target, place in phase.stores:
        kept = f"{place[0]}_{place[1]}" if place in copies else _take(place)
        lines.append(f"{_read(target)} = {kept}")
    return lines


def _read(place: Place) -> str:
    kind, index = place
    if kind == "number":
        return f"T({index!r})"
    if kind == "v":
        return f"v{index}"
    return kind if kind == "drop" else f"{kind}[{index}]"


def _take(place: Place) -> str:
    """Return the C++ of a value as a vector, also of a constant."""
    if place[0] != "number":
        return _read(place)
    return "V{}" if place[1] == 0 else f"{_read(place)} - V{{}}"


def _indented(statements: list[str]) -> list[str]:
    return [f"    {statement};" for statement in statements]


def _list(name: str, numbers: tuple[int, ...] | list[int]) -> str:
    return f"{name}[] = {{{', '.join(map(str, numbers or (0,)))}}}"


def struct_name(kernel: str) -> str:
    """Return the name of a built-in kernel's functor."""
    return kernel.title().replace("_", "")


def source_of(functors: dict[str, Functor], by_hand: tuple[str, ...] = ()) -> str:
    """Return a header with these functors, in place of native/generated.hpp."""
    names = [functor.name for functor in functors.values()]
    cells = " \\\n  ".join(f"_({name})" for name in (*names, *by_hand))
    parts = []
    for functor in functors.values():
        comment = "\n".join(f"// {line}" for line in str(functor.program).split("\n"))
        parts.append(f"{comment}\n{functor}\n")
    return "\n".join(
        [
            "// Written by cells/write_kernels.py from the cells' equations: `make kernels`.",
            "#pragma once",
            '#include "cells.hpp"',
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
