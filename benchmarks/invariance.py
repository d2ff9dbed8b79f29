"""Time calls within `seqcells.batch_invariant()` against the same calls outside it, on the CPU.

python -m benchmarks.invariance
python -m benchmarks.invariance --only lstm,H=64

Layers have as many inputs as units and run T steps of B sequences, without gradients or forward and
backward. Both take turns, and the shortest turn of each counts. A ratio above 1 is the cost of the
context, entering it included.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

import seqcells
from benchmarks.options import at_least_one, parser_of, select, words_of
from benchmarks.table import markdown
from benchmarks.timing import in_turn

SEED = 0
AXES: tuple[dict[str, Any], ...] = (
    {"rnn": "RNN", "gru": "GRU", "lstm": "LSTM"},
    {f"H={units}": units for units in (64, 256)},
    {f"T={steps}": steps for steps in (1, 10, 100)},
    {f"B={rows}": rows for rows in (1, 4, 32)},
)


class Case(NamedTuple):
    """A layer and the shape of its input."""

    cell: str
    units: int
    steps: int
    rows: int

    def __str__(self) -> str:
        return f"{self.cell}, H={self.units}, T={self.steps}, B={self.rows}"


def calls_of(case: Case, train: bool) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return the call in the context and the call outside it."""
    torch.manual_seed(SEED)
    layer = getattr(seqcells, case.cell)(case.units, case.units)
    inputs = torch.randn(case.steps, case.rows, case.units, requires_grad=train)

    def call() -> None:
        with torch.set_grad_enabled(train):
            outputs, _ = layer(inputs)
            if train:
                outputs.sum().backward()

    def invariant() -> None:
        with seqcells.batch_invariant():
            call()

    return invariant, call


def main(argv: Sequence[str]) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--only", default="", help="rows with these words, such as lstm,T=1")
    parser.add_argument(
        "--rounds", type=at_least_one, default=21, help="turns of each call (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", type=at_least_one, default=1, help="threads of torch (default: %(default)s)"
    )
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    only = words_of(parser, "--only", options.only, [word for axis in AXES for word in axis])
    cases = [Case(*values) for values in select(AXES, only)]
    rows, total = [], 2 * len(cases) * options.rounds
    with tqdm(total=total, disable=None, leave=False) as bar:
        for case in cases:
            ratios = []
            for train in (False, True):
                calls = calls_of(case, train)
                inside, outside = in_turn(calls, options.rounds, bar.update, statistic=min)
                ratios.append(f"{inside / outside:.2f}")
            rows.append([str(case), *ratios])
    columns = ["layer", "without gradients", "forward and backward"]
    print("\n".join(markdown(columns[:1], columns[1:], rows)))


if __name__ == "__main__":
    main(sys.argv[1:])
