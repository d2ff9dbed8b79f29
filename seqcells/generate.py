"""Kernels out of equations: a cell's program as a kernel's name, the built-in ones as code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from seqcells.cells.base import EQUATIONS, GatedCell
from seqcells.cells.linear import LinearCell
from seqcells.kernels.catalogue import BUILT_IN, BY_HAND, COMPILED, source_of
from seqcells.kernels.compiler import NATIVE
from seqcells.kernels.program import Program, UntraceableError
from seqcells.kernels.source import Functor
from seqcells.kernels.triton.source import module_of
from seqcells.programs import constant, own_parameters, program, trace, with_parameters
from seqcells.state import flat_state, map_state


class Found(NamedTuple):
    """What tracing a cell came to; it stays with the cell as long as its equations are the same."""

    made_from: Any
    kernel: str | None = None
    reason: str = ""
    names: Sequence[str] = ()  # of the parameters that the kernel reads
    probe: Probe | None = None


def kernel_for(cell: GatedCell) -> tuple[str | None, str]:
    """The text of the cell's program, which names a kernel of its own, or None and the reason.

    It is traced when it is first asked for, and again when a number or a flag of the cell has
    changed. A cell that is not compiled is probed besides, for what else `activate` may read.
    """
    kernel, reason = _recorded(cell)
    if kernel is not None and torch.compiler.is_dynamo_compiling():
        _read_again(cell)
    return kernel, reason


def _read_again(cell: GatedCell) -> None:
    """Let a graph that is being compiled see what `activate` reads: if it changes, so must it."""
    sums = cell._any_parameter().new_zeros(1, len(cell.gates) * cell.hidden_size)
    state = cell.initial_state(1, device=sums.device, dtype=sums.dtype)
    cell.activate(sums, None if isinstance(cell, LinearCell) else sums, state)


@constant
def _recorded(cell: GatedCell) -> tuple[str | None, str]:
    if torch._C._len_torch_dispatch_stack():  # as of an export, whose tensors hold no numbers
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            return _recorded(cell)
    found: Found | None = vars(cell).get("_program")
    plain = (bool, int, float, str)
    made_from = type(cell), [item for item in vars(cell).items() if type(item[1]) in plain]
    stale = found is None or found.made_from != made_from
    if stale or (found.probe is not None and not found.probe.holds(cell)):
        found = vars(cell)["_program"] = _found(cell, made_from)
    return found.kernel, found.reason


def _found(cell: GatedCell, made_from: Any) -> Found:
    try:
        _check_methods(cell)
        found, names = trace(cell)
    except UntraceableError as reason:
        return Found(made_from, reason=str(reason))
    if cell.compiles:
        return Found(made_from, f"{COMPILED}{found}", names=names)
    return Found(made_from, str(found), names=names, probe=Probe.of(cell))


class Probe(NamedTuple):
    """What `activate` made of random numbers when it was traced."""

    arguments: tuple[Any, ...]
    parameters: dict[str, Tensor]
    state: list[Tensor]

    @classmethod
    def of(cls, cell: GatedCell) -> Self:
        generator = torch.Generator().manual_seed(0)

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        product = (2, len(cell.gates) * cell.hidden_size)
        state = map_state(lambda part: random(*part.shape), cell.initial_state(2, device="cpu"))
        arguments = random(*product), random(*product), state
        parameters = {name: random(*value.shape) for name, value in own_parameters(cell)}
        probe = cls(arguments, parameters, [])
        return probe._replace(state=probe.run(cell))

    def holds(self, cell: GatedCell) -> bool:
        """Whether it makes the same of them now."""
        return all(map(torch.equal, self.run(cell), self.state))

    def run(self, cell: GatedCell) -> list[Tensor]:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            return flat_state(with_parameters(cell, self.parameters).activate(*self.arguments)[0])


def _check_methods(cell: GatedCell) -> None:
    usual = {"step": (GatedCell.step, LinearCell.step), "from_inputs": (GatedCell.from_inputs,)}
    usual["output"] = (GatedCell.output,)
    for name, methods in usual.items():
        if getattr(type(cell), name) not in methods or name in vars(cell):
            raise UntraceableError(f"{type(cell).__name__} has a {name} of its own")


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
    NATIVE.parent / "triton" / "generated.py": lambda: module_of(built_in_programs()),
}


def write_built_in() -> None:
    """Write them anew: `make kernels`."""
    for path, text in WRITTEN.items():
        path.write_text(text())
        print(f"Kernels: {path}")
