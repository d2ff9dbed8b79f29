"""One row of the GPU's benchmark: who competes in it, and how long each takes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

import seqcells
from benchmarks.layers import FURTHER, LayerRun
from benchmarks.shapes import Shape
from benchmarks.table import PASSES
from benchmarks.timing import CLOCKS, in_turn

KERNEL, CUDNN, TORCH, LOOP, COMPILED = "triton", "cudnn", "torch.nn", "loop", "compiled loop"
# Who competes, and by which backend of ours; torch.nn's layers have none.
BACKENDS = {KERNEL: "triton", CUDNN: "cudnn", TORCH: "auto", LOOP: "reference"}
BACKENDS[COMPILED] = BACKENDS[LOOP]
COMPILE = {"fullgraph": True}
COMPILED_SIZES = (128, 64, 256)  # steps, rows, units: elsewhere compiling a loop takes too long

WARM_UP = 3  # calls
LONG = 0.1  # seconds: longer calls run in a few rounds alone


@dataclass(frozen=True)
class Case:
    """A kind of recurrence on a batch, of inputs as wide as the state."""

    cell: str
    shape: Shape
    dtype: torch.dtype
    train: bool

    @property
    def plain(self) -> bool:
        """Whether torch.nn has it."""
        return self.cell not in FURTHER

    @property
    def mode(self) -> str:
        return "training" if self.train else "inference"

    @property
    def kind(self) -> str:
        """What it is apart from its sizes."""
        return f"{self.cell}, {self.shape.name}, {_name(self.dtype)}, {self.mode}"

    @property
    def words(self) -> list[str]:
        return [str(self.shape), _name(self.dtype), self.mode]

    @property
    def operations(self) -> int:
        """Of the matrix products."""
        return PASSES[self.train] * self.shape.operations(self._gated())

    @property
    def moved(self) -> int:
        """Bytes read and written at least.

        Training reads weights, inputs and outputs again, and as much of gradients.
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
    """Seconds of each contestant that could run, and why the others could not."""

    case: Case
    times: dict[str, float]
    reasons: dict[str, str]

    def ratio(self, theirs: str, *ours: str) -> float | None:
        """Their time over that of the fastest of ours; above 1 ours is faster."""
        own = [self.times[name] for name in ours if name in self.times]
        return self.times[theirs] / min(own) if own and theirs in self.times else None


class Contestant:
    """A step by one backend, each time it is called."""

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
    """The contestants of these names that run, and why the others do not."""
    ready: dict[str, Contestant] = {}
    reasons: dict[str, str] = {}
    for name in (name for name in names if competes(name, case)):
        try:
            contestant = Contestant(name, case, device)
            CLOCKS[device](contestant, WARM_UP)
        except Exception as error:  # of any kind: the reason stands below the table
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
    """Warm up the contestants of these names, then time in turn those that ran."""
    ready, reasons = warm_up(case, device, names)
    times = in_turn(list(ready.values()), rounds, tick, CLOCKS[device], LONG)
    return Result(case, dict(zip(ready, times)), reasons)
