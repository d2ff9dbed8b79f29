"""Write the generated files of the kernels from the cells' equations: `make kernels`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from seqcells import equations
from seqcells.cells.table import EQUATIONS
from seqcells.equations.program import Program
from seqcells.equations.recording import record
from seqcells.kernels.cpu.compiler import NATIVE
from seqcells.kernels.cpu.encoding import operations_header
from seqcells.kernels.cpu.source import Functor, source_of, struct_name
from seqcells.kernels.triton.source import module_of

CATALOGUE_HEAD = """\
# Written by cells/write_kernels.py from the cells' equations: `make kernels`.
# ruff: noqa
# fmt: off
"""


def programs() -> dict[str, Program]:
    """Return the program of each generated kernel, by name."""
    return {name: record(cell)[0] for name, cell in EQUATIONS.items()}


def catalogue_module() -> str:
    """Return the text of equations/built_in.py: the programs and the parameters that they read."""
    texts = "".join(f'    "{name}": """\\\n{text}""",\n' for name, text in programs().items())
    parameters = {
        name: tuple((parameter, len(getattr(cell, parameter))) for parameter in record(cell)[1])
        for name, cell in EQUATIONS.items()
    }
    rows = "".join(f'    "{name}": {counts!r},\n' for name, counts in parameters.items() if counts)
    return (
        f"{CATALOGUE_HEAD}PROGRAMS = {{\n{texts}}}\n\n"
        "# Parameters that a step reads outside the products, each with its numbers per unit.\n"
        f"PARAMETERS: dict[str, tuple[tuple[str, int], ...]] = {{\n{rows}}}\n"
    )


def functors_header() -> str:
    """Return the text of native/generated.hpp: the functors of all built-in kernels."""
    functors = {
        name: Functor(struct_name(name), program, projects=name == "lstm")
        for name, program in programs().items()
    }
    return source_of(functors)


# Path -> function that returns the content of the generated file.
GENERATED_FILES: dict[Path, Callable[[], str]] = {
    Path(equations.__file__).with_name("built_in.py"): catalogue_module,
    NATIVE / "generated.hpp": functors_header,
    NATIVE / "operations.hpp": operations_header,
    NATIVE.parents[1] / "triton" / "generated.py": lambda: module_of(programs()),
}


def write() -> None:
    """Write all generated files."""
    for path, content in GENERATED_FILES.items():
        path.write_text(content())
        print(f"Kernels: {path}")


if __name__ == "__main__":
    write()
