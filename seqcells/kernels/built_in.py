"""Write the code of the built-in kernels from the cells' equations: `make kernels`."""

from __future__ import annotations

from seqcells.cells.base import EQUATIONS
from seqcells.equations.catalogue import BUILT_IN, BY_HAND
from seqcells.equations.program import Program
from seqcells.equations.recording import program
from seqcells.kernels.cpu.compiler import NATIVE
from seqcells.kernels.cpu.source import Functor, source_of
from seqcells.kernels.triton.source import module_of


def built_in_programs() -> dict[str, Program]:
    """Of each built-in kernel that is not written by hand, by its name."""
    return {name: program(EQUATIONS[name]) for name in BUILT_IN if name not in BY_HAND}


def built_in_header() -> str:
    """What native/generated.hpp has to hold."""
    functors = {
        name: Functor(BUILT_IN[name].functor, found, projects=name == "lstm")
        for name, found in built_in_programs().items()
    }
    return source_of(functors, tuple(BUILT_IN[name].functor for name in BY_HAND))


# By the paths of the files, what they have to hold.
WRITTEN = {
    NATIVE / "generated.hpp": built_in_header,
    NATIVE.parents[1] / "triton" / "generated.py": lambda: module_of(built_in_programs()),
}


def write_built_in() -> None:
    """Write them anew: `make kernels`."""
    for path, text in WRITTEN.items():
        path.write_text(text())
        print(f"Kernels: {path}")
