"""One row of the GPU benchmark: its contestants and their times."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

import seqcells
from benchmarks.layers import FURTHER, LayerRun
from benchmarks.shapes import Shape
from benchmarks.table import PASSES
from benchmarks.timing import CLOCKS, in_turn

KERNEL, CUDNN, TORCH, LOOP, COMPILED = "triton", "cudnn", "torch.nn", "loop", "compiled loop"
# The contestants and our backend for each; torch.nn's layers ignore it.
BACKENDS = {KERNEL: "triton", CUDNN: "cudnn", TORCH: "auto", LOOP: "reference"}
BACKENDS[COMPILED] = BACKENDS[LOOP]
COMPILE = {"fullgraph": True}
COMPILED_SIZES = (128, 64, 256)  # steps, rows, units: compiling a loop takes too long for others

WARM_UP = 3  # calls
LONG = 0.1  # seconds: longer calls run in a few rounds only


@dataclass(frozen=True)
class Case:
    """A recurrence on a batch whose inputs are as wide as the state."""

    cell: str
    shape: Shape
    dtype: torch.dtype
    train: bool

    @property
    def plain(self) -> bool:
        """Whether torch.nn has the cell."""
        return self.cell not in FURTHER

    @property
    def mode(self) -> str:
        return "training" if self.train else "inference"

    @property
    def kind(self) -> str:
        """The case without its sizes."""
        return f"{self.cell}, {self.shape.name}, {_name(self.dtype)}, {self.mode}"

    @property
    def words(self) -> list[str]:
        return [str(self.shape), _name(self.dtype), self.mode]

    @property
    def operations(self) -> int:
        """Operations of the matrix products."""
        return PASSES[self.train] * self.shape.operations(self._gated())

    @property
    def moved(self) -> int:
        """Lower bound of the bytes read and written.

        Training reads weights, inputs and outputs again, and gradients of the same size.
        """
        return PASSES[self.train] * self.dtype.itemsize * self.shape.moved(self._gated())

    def _gated(self) -> str:
        return self.cell if self.plain else "LSTM"

    def __str__(self) -> str:
        return f"{self.cell}, {', '.join(self.words)}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@dataclass(frozen=True)
class Result:
    """Seconds of each contestant that ran, and the reasons why others did not."""

    case: Case
    times: dict[str, float]
    reasons: dict[str, str]

    def ratio(self, theirs: str, *ours: str) -> float | None:
        """Return their time divided by the fastest of ours; above 1 ours is faster."""
        own = [self.times[name] for name in ours if name in self.times]
        return self.times[theirs] / min(own) if own and theirs in self.times else None


class Contestant:
    """One step on one backend per call."""

    def __init__(self, name: str, case: Case, device: str) -> None:
        library = "torch.nn" if name == TORCH else "seqcells"
        self.backend = BACKENDS[name]
        self.run = LayerRun(library, case.cell, case.shape, case.train, case.dtype, device)
        if name == COMPILED:
            torch.compiler.reset()
            self.run.layer.compile(**COMPILE)

    def __call__(self) -> object:
        with seqcells.backend(self.backend):
            return self.run()


def competes(name: str, case: Case) -> bool:
    if name == COMPILED:
        shape = case.shape
        sizes = (shape.steps, shape.batch, shape.hidden)
        return sizes == COMPILED_SIZES and shape.lengths is None
    return case.plain or name != TORCH


def warm_up(
    case: Case, device: str, names: Iterable[str]
) -> tuple[dict[str, Contestant], dict[str, str]]:
    """Return the contestants that run, and the reasons why others do not."""
    ready: dict[str, Contestant] = {}
    reasons: dict[str, str] = {}
    for name in (name for name in names if competes(name, case)):
        try:
            contestant = Contestant(name, case, device)
            CLOCKS[device](contestant, WARM_UP)
        except Exception as error:  # of any kind: the reason is printed below the table
            reasons[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
        else:
            ready[name] = contestant
    return ready, reasons


def measure(
    case: Case,
    rounds: int,
    tick: Callable[[], object],
    device: str,
    names: Iterable[str] = tuple(BACKENDS),
) -> Result:
    """Warm up the named contestants, then time those that run in turn."""
    ready, reasons = warm_up(case, device, names)
    times = in_turn(list(ready.values()), rounds, tick, CLOCKS[device], LONG)
    return Result(case, dict(zip(ready, times)), reasons)
