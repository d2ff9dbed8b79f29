"""Time short calls: one step of a cell, 1 and 10 steps of a layer, against torch.nn.

python -m benchmarks.steps
python -m benchmarks.steps --only lstm,gru,T=1,B=1,inference
python -m benchmarks.steps --only cell --precision autocast

Overhead on the host dominates such calls: validation, dispatch, allocation. Both sides have the
same weights, inputs and initial state; inputs are as wide as the state (I=H). Inference runs under
`torch.no_grad`. Training is forward and backward, from the sum of the outputs (for a cell, its new
hidden state) to the weights. Gradients are set to None before each call, as in a training loop.
With `--precision autocast`, all calls of a row are in one context of bfloat16 autocast, as in a
loop over steps, so that torch.nn converts its weights once. With bfloat16 both modules are
converted.

Both sides of a row are warmed up and then timed in turn, round after round. A round is the mean
over 2 ms of calls. A figure is the fastest round, since other work on the machine only adds time.
Set `--threads 1` if there is such work.
"""

import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import seqcells
from benchmarks.layers import LIBRARIES, SEED
from benchmarks.options import at_least_one, parser_of, select, words_of
from benchmarks.shapes import GATES
from benchmarks.table import markdown
from benchmarks.timing import Clock, in_turn, seconds
from seqcells.lab.machine import processor

CELLS, ONE, TEN = "cells", "layers, T=1", "layers, T=10"
STEPS = {CELLS: None, ONE: 1, TEN: 10}
# The words that --only takes, by axis of the grid.
AXES: tuple[dict[str, Any], ...] = (
    {"cell": CELLS, "T=1": ONE, "T=10": TEN},
    {name.lower(): name for name in GATES},
    {f"L={layers}": layers for layers in (1, 2)},
    {"inference": False, "training": True},
    {f"B={rows}": rows for rows in (1, 8, 32, 64)},
    {f"H={units}": units for units in (64, 128, 256)},
)
QUICK = ("B=1", "B=32", "H=64")
WARM_UP = 20  # calls
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "autocast": torch.float32}
BURST = 0.002  # seconds of calls per round: short, to fit between other work
CLOCKS: dict[bool, Clock] = {False: torch.no_grad()(seconds), True: seconds}  # by `train`


@dataclass(frozen=True)
class Case:
    """A call: the kind of module, its sizes, and its mode."""

    kind: str
    cell: str
    layers: int
    train: bool
    batch: int
    hidden: int
    precision: str = "float32"

    @property
    def mode(self) -> str:
        return "training" if self.train else "inference"

    @property
    def name(self) -> str:
        """The module with its layers and steps."""
        if self.kind == CELLS:
            return f"{self.cell}Cell"
        return f"{self.cell}, L={self.layers}, T={STEPS[self.kind]}"

    def __str__(self) -> str:
        return f"{self.name}, B={self.batch}, H={self.hidden}, {self.mode}"


@dataclass(frozen=True)
class Row:
    """Seconds of one call, in the fastest round of each side."""

    case: Case
    theirs: float
    ours: float

    @property
    def ratio(self) -> float:
        return self.theirs / self.ours

    @property
    def words(self) -> list[str]:
        case = self.case
        times = (f"{1e6 * taken:.1f}" for taken in (self.theirs, self.ours))
        return [
            case.name,
            case.mode,
            str(case.batch),
            str(case.hidden),
            *times,
            f"{self.ratio:.2f}",
        ]


def choose(only: Sequence[str], quick: bool, precision: str = "float32") -> list[Case]:
    """Return the rows of the grid; cells have one layer."""
    cases = [Case(*values, precision) for values in select(AXES, only, QUICK if quick else ())]
    return [case for case in cases if case.kind != CELLS or case.layers == 1]


def modules(case: Case) -> dict[str, nn.Module]:
    """Return torch.nn's module and ours, with the same weights."""
    torch.manual_seed(SEED)
    if case.kind == CELLS:
        name, sizes = f"{case.cell}Cell", (case.hidden, case.hidden)
    else:
        name, sizes = case.cell, (case.hidden, case.hidden, case.layers)
    made = {library: getattr(package, name)(*sizes) for library, package in LIBRARIES.items()}
    made["seqcells"].load_state_dict(made["torch.nn"].state_dict())
    dtype = PRECISIONS[case.precision]
    return {library: module.train(case.train).to(dtype) for library, module in made.items()}


def arguments(case: Case) -> tuple[Tensor, Tensor | tuple[Tensor, Tensor]]:
    """Return an input and an initial state, in torch.nn's layout."""
    generator = torch.Generator().manual_seed(SEED)
    dtype = PRECISIONS[case.precision]

    def make(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=generator).to(dtype)

    steps = STEPS[case.kind]
    inputs = make(*(() if steps is None else (steps,)), case.batch, case.hidden)
    sizes = (*(() if steps is None else (case.layers,)), case.batch, case.hidden)
    return inputs, (make(*sizes), make(*sizes)) if case.cell == "LSTM" else make(*sizes)


def call(module: nn.Module, case: Case) -> Callable[[], Any]:
    """Return the function to time; it returns what the module returns."""
    inputs, state = arguments(case)
    if not case.train:
        return partial(module, inputs, state)
    parameters = list(module.parameters())

    def train() -> Any:
        for parameter in parameters:
            parameter.grad = None
        result = module(inputs, state)
        output = result if isinstance(result, Tensor) else result[0]
        output.sum().backward()
        return result

    return train


def measure(case: Case, rounds: int, tick: Callable[[], object]) -> Row:
    """Warm up both sides and time them in turn."""
    runs, clock = [call(module, case) for module in modules(case).values()], CLOCKS[case.train]
    with torch.autocast("cpu", torch.bfloat16, enabled=case.precision == "autocast"):
        for run in runs:
            clock(run, WARM_UP)
        return Row(case, *in_turn(runs, rounds, tick, clock, shortest=BURST, statistic=min))


def table(rows: Sequence[Row]) -> Iterator[str]:
    figures = ["B", "H", "torch.nn, us", "seqcells, us", "torch.nn / seqcells"]
    return markdown(["call", "mode"], figures, (row.words for row in rows))


def summary(rows: Sequence[Row]) -> Iterator[str]:
    """Return a table of the ratios, for each kind of call in each mode."""
    lines = []
    for kind, train in product(STEPS, (False, True)):
        some = [row for row in rows if (row.case.kind, row.case.train) == (kind, train)]
        if not some:
            continue
        mean = statistics.geometric_mean(row.ratio for row in some)
        least = min(some, key=lambda row: row.ratio)
        lines.append(
            [
                kind,
                least.case.mode,
                f"{least.case.name}, B={least.case.batch}, H={least.case.hidden}",
                str(len(some)),
                f"{mean:.2f}",
                f"{least.ratio:.2f}",
            ]
        )
    words = ["calls", "mode", "smallest at"]
    return markdown(words, ["rows", "geometric mean", "smallest ratio"], lines)


def environment(command: Sequence[str], threads: int, rounds: int) -> str:
    """Describe the machine, the versions and the measurement."""
    return (
        f"{time.strftime('%Y-%m-%d')}, {processor()}, {os.cpu_count()} cores, "
        f"{torch.backends.cpu.get_cpu_capability()}, {platform.system()}; "
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"seqcells {seqcells.__version__}; {threads} threads, the fastest of {rounds} rounds, "
        f"seed {SEED}: `{shlex.join(['python', '-m', 'benchmarks.steps', *command])}`\n"
    )


def main(argv: Sequence[str]) -> None:
    parser = parser_of(__doc__)
    words = [word for axis in AXES for word in axis]
    parser.add_argument("--rounds", type=at_least_one, default=31, help="default: %(default)s")
    parser.add_argument(
        "--threads", type=at_least_one, default=torch.get_num_threads(), help="default: %(default)s"
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="float32", help="default: %(default)s"
    )
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--only", default="", help=f"rows, separated by commas: {', '.join(words)}")
    options = parser.parse_args(argv)
    only = words_of(parser, "--only", options.only, words)
    cases = choose(only, options.quick, options.precision)
    if not cases:
        parser.error(f"--only: expected words that leave some rows, got {options.only!r}")
    torch.set_num_threads(options.threads)

    rows = []
    with tqdm(total=len(cases) * options.rounds, leave=False, disable=None) as bar:
        for case in cases:
            bar.set_description(str(case))
            rows.append(measure(case, options.rounds, bar.update))
    print(environment(argv, options.threads, options.rounds))
    print("\n".join([*table(rows), "", *summary(rows)]))


if __name__ == "__main__":
    main(sys.argv[1:])
