"""Time our layers on a GPU, on Triton and cuDNN, against torch.nn and a Python loop.

python -m benchmarks.gpu --quick
python -m benchmarks.gpu --only lstm,gru,H=256,H=512,B=64,bfloat16,ragged,training

`triton` is our kernel, `cudnn` our layers on cuDNN, `torch.nn` its layers on cuDNN, `loop` the
readable loop in Python, and `compiled loop` the same with `torch.compile`. Long loops take long to
compile, so `compiled loop` runs at T=128 B=64 H=256 without lengths only. `--skip` leaves columns
out. Inputs are as wide as the state (I=H). Training is forward and backward, from a given gradient
of the outputs to the inputs. Ragged rows have IMDB's lengths, cut at T, unsorted: on the device as
`lengths=` for us, on the CPU for torch.nn, whose time includes packing.

One process per core first compiles the Triton kernels of all rows.

All contestants of a row are warmed up and then timed in turn by CUDA events, with the same tensors.
A figure is the median of the rounds, of 3 if a call takes longer than 0.1 s. Ratios are their time
divided by ours. tokens/s and the shares of the machine's peak are those of our kernel. Operations
are 2 N G H (I + H) for N tokens and G gates. Bytes are those of the weights, G H (I + H), and of
inputs and outputs, N (I + H), each once. Training takes three times both. The peaks are measured
with a large matrix product of the same dtype and a large copy. TF32 is off on every side; --tf32
enables it on every side.
"""

import multiprocessing
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
from torch.utils import collect_env
from tqdm import tqdm

from benchmarks.answers import answers
from benchmarks.contest import (
    BACKENDS,
    COMPILED,
    CUDNN,
    KERNEL,
    LOOP,
    TORCH,
    Case,
    Result,
    measure,
    warm_up,
)
from benchmarks.options import at_least_one, parser_of, select, words_of
from benchmarks.shapes import Shape, imdb_lengths
from benchmarks.table import markdown
from benchmarks.timing import copy_peak, matrix_peak

try:
    import triton
except ImportError:
    triton = None

DEVICE = "cuda"
# Values by the words of --only, by axis of the grid.
AXES: tuple[dict[str, Any], ...] = (
    {
        "rnn": "RNN",
        "gru": "GRU",
        "lstm": "LSTM",
        "layer_norm": "LayerNormLSTM",
        "peephole": "PeepholeLSTM",
        "zoneout": "ZoneoutLSTM",
    },
    {"float32": torch.float32, "bfloat16": torch.bfloat16},
    {"padded": False, "ragged": True},
    {"inference": False, "training": True},
    {f"T={steps}": steps for steps in (128, 1024)},
    {f"B={rows}": rows for rows in (16, 64, 256)},
    {f"H={units}": units for units in (64, 128, 256, 512, 1024)},
)
QUICK = ("T=128", "B=64", "H=128", "H=512")
RATIOS = ((TORCH, KERNEL), (TORCH, CUDNN), (LOOP, KERNEL), (COMPILED, KERNEL))
MATRIX, COPY = 8192, 1 << 30  # rows and columns, bytes


def choose(only: Sequence[str], quick: bool) -> list[Case]:
    """Return rows of the grid: by axis the values in `only`, else those of `quick`, else all."""
    return [make_case(*values) for values in select(AXES, only, QUICK if quick else ())]


def make_case(
    cell: str,
    dtype: torch.dtype,
    ragged: bool,
    train: bool,
    steps: int,
    rows: int,
    units: int,
) -> Case:
    lengths = imdb_lengths(rows, longest=steps, shuffle=True) if ragged else None
    name, given = ("ragged", "lengths") if ragged else ("padded", "padded")
    shape = Shape(name, steps, rows, units, units, given=given, lengths=lengths)
    return Case(cell, shape, dtype, train)


def row(result: Result, operations: dict[torch.dtype, float], moved: float) -> list[str]:
    """Return a line of the table, with a dash for each missing figure."""
    case = result.case
    times = [result.times.get(name) for name in BACKENDS]
    ratios = [result.ratio(*pair) for pair in RATIOS]
    shares = ["-"] * 3
    if own := result.times.get(KERNEL):
        shares = [
            f"{case.shape.tokens / own:,.0f}",
            f"{case.operations / own / operations[case.dtype]:.1%}",
            f"{case.moved / own / moved:.1%}",
        ]
    return [
        *case.words,
        *("-" if seconds is None else f"{1e3 * seconds:.3f}" for seconds in times),
        *("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
        *shares,
    ]


def reasons(results: Sequence[Result]) -> Iterator[str]:
    """Yield each reason for missing figures once, with the first row that has it."""
    found: dict[tuple[str, str], list[Case]] = {}
    for result in results:
        for pair in result.reasons.items():
            found.setdefault(pair, []).append(result.case)
    for (name, reason), cases in found.items():
        yield f"- {name}, in {len(cases)} rows, first {cases[0]}: {reason}"


def head(command: Sequence[str]) -> str:
    """Describe the machine, the versions and the command."""
    device = torch.cuda.get_device_name() if DEVICE == "cuda" else DEVICE
    driver = collect_env.get_nvidia_driver_version(collect_env.run)
    tf32 = "on" if torch.backends.cuda.matmul.allow_tf32 else "off"
    return (
        f"{time.strftime('%Y-%m-%d')}, {device}, driver {driver or 'unknown'}, CUDA "
        f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, torch {torch.__version__}, "
        f"triton {triton.__version__ if triton else 'not installed'}, TF32 {tf32}: "
        f"`{shlex.join(['python', '-m', 'benchmarks.gpu', *command])}`\n"
    )


def compile_kernels(cases: Sequence[Case], processes: int) -> None:
    """Compile the Triton kernels of these rows in parallel; Triton caches them on disk."""
    # The number of steps is not compiled into a kernel, so two are enough.
    short = {
        replace(case, shape=replace(case.shape, steps=2, lengths=_cut(case))) for case in cases
    }
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context) as pool:
        runs = pool.map(_compile, short)
        for _ in tqdm(runs, "compiling", len(short), leave=False, disable=None):
            pass


def _cut(case: Case) -> tuple[int, ...] | None:
    lengths = case.shape.lengths
    return None if lengths is None else tuple(min(length, 2) for length in lengths)


def _compile(case: Case) -> None:
    torch.set_num_threads(1)
    # Errors are ignored here: the measurement raises them again and reports them.
    warm_up(case, DEVICE, [KERNEL])


def say(line: str) -> None:
    """Print past the progress bar and flush, to lose no finished row on interruption."""
    tqdm.write(line)
    sys.stdout.flush()


def run(cases: Sequence[Case], rounds: int, names: Sequence[str]) -> list[Result]:
    """Print a table per cell, row by row, and the reasons for missing figures."""
    results: list[Result] = []
    dtypes = dict.fromkeys(case.dtype for case in cases)
    operations = {dtype: matrix_peak(MATRIX, dtype=dtype, device=DEVICE) for dtype in dtypes}
    moved = copy_peak(COPY, DEVICE)
    for dtype, peak in operations.items():
        say(f"A large matrix product in {dtype} runs at {peak / 1e12:.1f} TFLOP/s.")
    say(f"A large copy reads and writes {moved / 1e9:.0f} GB/s.")
    figures = [*(f"{name}, ms" for name in BACKENDS), *(f"{a} / {b}" for a, b in RATIOS)]
    figures += ["tokens/s", "of arithmetic peak", "of memory peak"]

    with tqdm(total=len(cases) * rounds, leave=False, disable=None) as bar:

        def measured(some: Iterator[Case]) -> Iterator[list[str]]:
            for case in some:
                bar.set_description(str(case))
                results.append(measure(case, rounds, bar.update, DEVICE, names))
                yield row(results[-1], operations, moved)

        for cell, some in groupby(cases, key=lambda case: case.cell):
            say(f"\n## {cell}\n")
            before = len(results)
            for line in markdown(["batch", "dtype", "mode"], figures, measured(some)):
                say(line)
            for line in ["", *reasons(results[before:])]:
                say(line)
    return results


def main(argv: Sequence[str]) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=at_least_one, default=11, help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--skip", default="", help=f"columns to leave out: {', '.join(BACKENDS)}")
    parser.add_argument("--tf32", action="store_true", help="allow TF32 on every side")
    words = [word for axis in AXES for word in axis]
    parser.add_argument("--only", default="", help=f"rows, separated by commas: {', '.join(words)}")
    options = parser.parse_args(argv)

    only = words_of(parser, "--only", options.only, words)
    skipped = words_of(parser, "--skip", options.skip, BACKENDS)
    names = [name for name in BACKENDS if name not in skipped]
    if DEVICE == "cuda" and not torch.cuda.is_available():
        parser.error(
            "expected a GPU that torch can use, got none; run this on a machine with an NVIDIA "
            f"GPU and a torch built for CUDA (this is torch {torch.__version__})"
        )
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = options.tf32

    started = time.monotonic()
    say(head(argv))
    cases = choose(only, options.quick)
    if DEVICE == "cuda" and KERNEL in names:
        compile_kernels(cases, os.cpu_count() or 1)
    results = run(cases, options.rounds, names)
    for line in ["\n## Summary\n", *answers(results)]:
        say(line)
    missing = sum(len(result.reasons) for result in results)
    minutes = (time.monotonic() - started) / 60
    print(f"\nDone: {len(results)} rows in {minutes:.1f} minutes, {missing} figures missing.")


if __name__ == "__main__":
    main(sys.argv[1:])
