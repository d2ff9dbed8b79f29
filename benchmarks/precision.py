"""Compare float32, bfloat16 and int8 on the CPU: speed, memory and error, with other libraries.

python -m benchmarks.precision
python -m benchmarks.precision --only lstm,inference,B=32,H=256

Inference runs under `torch.no_grad`: seqcells, torch.nn and onnxruntime in float32; seqcells and
torch.nn in bfloat16, as `module.bfloat16()` and under autocast; `seqcells.quantize` with both
dtypes; dynamic int8 quantization by torch.ao and onnxruntime. Training is the forward pass, in
float32 or under autocast, and the backward pass from a given gradient of the outputs to weights and
inputs. torch.nn lacks the peephole LSTM: there, our readable loop in float32 and bfloat16 replaces
it. "n/a": the library does not quantize the cell. All engines have the same weights and inputs,
with T=100 and I=H.

The engines of a case are timed in turn. A time is the median over the rounds, a ratio the median of
the ratios of single rounds. Above 1, the engine of the row is faster. Counterparts are the engines
of other libraries in the same precision; the fastest counts. Bytes are those of parameters and
buffers, or of the ONNX file. An error is the norm of the difference from the readable loop in
float64, divided by the norm of its result; for gradients, the largest over weights, biases and
inputs.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks import engines, instructions
from benchmarks.engines import (
    AUTOCAST,
    BFLOAT16,
    COUNTERPARTS,
    FLOAT32,
    INT8,
    OURS,
    QUANTIZED,
    Case,
)
from benchmarks.options import at_least_one, parser_of, select, words_of
from benchmarks.table import markdown
from benchmarks.timing import in_turn, seconds
from seqcells.lab.machine import processor

AXES: tuple[dict[str, Any], ...] = (
    {"inference": False, "training": True},
    {"lstm": "LSTM", "gru": "GRU", "peephole": engines.PEEPHOLE},
    {f"B={rows}": rows for rows in (1, 32, 64)},
    {f"H={units}": units for units in (64, 128, 256, 512)},
)
WARM_UP = 3  # calls
PAUSE = 0.02  # seconds: until the threads of the previous engine sleep
LONG = 1.0  # seconds: longer calls run in a few rounds only
BASE = engines.name_of(OURS, FLOAT32)


@dataclass(frozen=True)
class Result:
    """Seconds by round, bytes and errors by engine; `names` includes engines without the case."""

    case: Case
    names: tuple[str, ...]
    times: dict[str, list[float]]
    sizes: dict[str, int]
    errors: dict[str, tuple[float, ...]]  # of outputs and, in training, of gradients

    def ratio(self, name: str, base: str) -> float | None:
        """Return the time of `base` divided by that of `name`; above 1 `name` is faster."""
        if name not in self.times or base not in self.times:
            return None
        return median(b / a for a, b in zip(self.times[name], self.times[base]))

    def against(self, name: str) -> dict[str, float]:
        """Return the ratio of each counterpart of one of our engines to it."""
        found = {other: self.ratio(name, other) for other in COUNTERPARTS.get(name, ())}
        return {other: ratio for other, ratio in found.items() if ratio is not None}

    def rows(self) -> Iterator[list[str]]:
        """Yield a row of the table for each engine."""
        case = self.case
        for name in self.names:
            words = [case.cell, name, str(case.batch), str(case.units)]
            if name not in self.times:
                yield [*words, *["n/a"] * (5 + case.train)]
                continue
            others = self.against(name)
            yield [
                *words,
                f"{1e3 * median(self.times[name]):.3f}",
                f"{self.ratio(name, BASE):.2f}",
                f"{min(others.values()):.2f}" if others else "",
                f"{self.sizes[name]:,}",
                *(f"{error:.1e}" for error in self.errors[name]),
            ]


def error(results: dict[str, Tensor], exact: dict[str, Tensor], prefix: str) -> float:
    """Return the largest norm-wise relative error of the results named with this prefix."""
    return max(
        ((found.double() - exact[name]).norm() / exact[name].norm()).item()
        for name, found in results.items()
        if name.startswith(prefix)
    )


def rested(run: Callable[[], object], repeats: int = 1) -> float:
    """Return the seconds of one call, measured when no thread of another engine spins."""
    time.sleep(PAUSE)
    return seconds(run, repeats)


def measure(case: Case, rounds: int, tick: Callable[[], object]) -> Result:
    """Determine the errors of all engines of a case, then time them in turn."""
    made = engines.engines_of(case)
    runs = {name: make(case) for name, make in made.items() if make is not None}
    exact, kinds = engines.exact(case), ("outputs", "grad")[: 1 + case.train]
    errors = {}
    for name, run in runs.items():
        results = run.results()
        errors[name] = tuple(error(results, exact, kind) for kind in kinds)
        seconds(run, WARM_UP)
    times = in_turn(list(runs.values()), rounds, tick, rested, LONG, statistic=list)
    sizes = {name: run.size for name, run in runs.items()}
    return Result(case, tuple(made), dict(zip(runs, times)), sizes, errors)


def tables(results: Sequence[Result]) -> Iterator[str]:
    """Yield a table per mode."""
    for train in (False, True):
        some = [result for result in results if result.case.train == train]
        if not some:
            continue
        figures = ["B", "H", "ms", "our float32 / this", "fastest counterpart / this", "bytes"]
        figures += ["error", "error of gradients"][: 1 + train]
        yield f"{some[0].case.mode.capitalize()}:"
        yield ""
        yield from markdown(["cell", "engine"], figures, (row for r in some for row in r.rows()))
        yield ""


def summary(results: Sequence[Result]) -> Iterator[str]:
    """Yield the comparisons that seqcells lost, and its smallest ratios to its own float32."""
    yield from slower(results)
    yield from less_exact(results)

    def large(case: Case) -> bool:
        return case.units >= 256 and case.batch >= 32

    def single(case: Case) -> bool:
        return (case.batch, case.units) == (1, 512)

    wide = "H of at least 256, B of at least 32"
    for precisions, train, where, chosen in (
        ([INT8], False, wide, large),
        ([INT8], False, "B=1, H=512", single),
        ([BFLOAT16, AUTOCAST, QUANTIZED], False, wide, large),
        ([AUTOCAST], True, wide, large),
    ):
        some = [r for r in results if r.case.train == train and chosen(r.case)]
        for precision in precisions:
            yield smallest(some, precision, f"{'training' if train else 'inference'}, {where}")


def slower(results: Sequence[Result]) -> Iterator[str]:
    """Yield the comparisons of speed in bfloat16 and int8 that seqcells lost."""
    compared = [
        (ratio, f"{result.case}: {name} against {other}")
        for result in results
        for name in COUNTERPARTS
        if name != BASE
        for other, ratio in result.against(name).items()
    ]
    yield from listing("seqcells slower in bfloat16 or int8", compared)


def less_exact(results: Sequence[Result]) -> Iterator[str]:
    """Yield the int8 cases in which seqcells has a larger error than another library."""
    ours = engines.name_of(OURS, INT8)
    compared = [
        (result.errors[other][0] / result.errors[ours][0], f"{result.case}: against {other}")
        for result in results
        for other in COUNTERPARTS[ours]
        if ours in result.errors and other in result.errors
    ]
    yield from listing("Error of our int8 larger", compared)


def listing(title: str, compared: Iterable[tuple[float, str]]) -> Iterator[str]:
    """Yield the number of ratios (theirs to ours) below 1, and each of these."""
    compared = sorted(compared)
    lost = [(ratio, where) for ratio, where in compared if ratio < 1]
    if not compared:
        yield f"- {title}: nothing to compare."
        return
    ratio, where = compared[0]
    yield (
        f"- {title}: in {len(lost)} of {len(compared)} comparisons. "
        f"Smallest ratio, theirs / ours: {ratio:.2f} ({where})."
    )
    for ratio, where in lost:
        yield f"  - {where}: {ratio:.2f}"


def smallest(results: Sequence[Result], precision: str, where: str) -> str:
    """Return a line with the smallest ratio of our float32 to one of our precisions."""
    name = engines.name_of(OURS, precision)
    ratios = [
        (ratio, str(result.case))
        for result in results
        if (ratio := result.ratio(name, BASE)) is not None
    ]
    title = f"- Smallest ratio, our float32 / {name} ({where})"
    if not ratios:
        return f"{title}: not measured."
    ratio, case = min(ratios)
    return f"{title}: {ratio:.2f} ({case})."


def main(argv: Sequence[str]) -> None:
    parser = parser_of(__doc__)
    words = [word for axis in AXES for word in axis]
    parser.add_argument(
        "--only", default="", help=f"cases, separated by commas: {', '.join(words)}"
    )
    parser.add_argument("--rounds", type=at_least_one, default=11, help="default: %(default)s")
    parser.add_argument(
        "--threads", type=at_least_one, default=torch.get_num_threads(), help="default: %(default)s"
    )
    options = parser.parse_args(argv)
    only = words_of(parser, "--only", options.only, words)
    torch.set_num_threads(options.threads)
    cases = [Case(*values) for values in select(AXES, only)]
    results = []
    with tqdm(total=len(cases) * options.rounds, leave=False, disable=None) as bar:
        for case in cases:
            bar.set_description(str(case))
            results.append(measure(case, options.rounds, bar.update))
    print(
        f"{processor()}; torch {torch.__version__}, torch.ao with {engines.quantized_engine()}; "
        f"{options.threads} threads, {options.rounds} rounds, T={engines.STEPS}\n"
    )
    print("\n".join([*tables(results), *instructions.report(), "", *summary(results)]))
    print(f"\n{len(cases)} cases measured.")


if __name__ == "__main__":
    main(sys.argv[1:])
