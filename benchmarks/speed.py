"""Time our layers against torch.nn's, with the same weights and in turn.

python -m benchmarks.speed

Figures are medians over rounds. Training is forward and backward, from a given gradient of the
outputs to the inputs. Ragged rows are packed for torch within its time, and its output stays
packed; ours get `lengths=`. An error is the largest difference of any output, final state or
gradient from torch.nn's in float64, relative to the largest value there. GFLOP/s count the matrix
products, without padding.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.layers import LIBRARIES, LayerRun, largest_error
from benchmarks.options import at_least_one, parser_of
from benchmarks.picture import draw
from benchmarks.shapes import FAMILIES, GATES, Shape
from benchmarks.table import Row, summary, table
from benchmarks.timing import in_turn, matrix_peak

PICTURE = Path(__file__).with_name("speed.svg")


def measure(
    family: Sequence[Shape], cell: str, train: bool, rounds: int, tick: Callable[[], object]
) -> list[Row]:
    """Return a row for each shape of the family."""
    runs, errors = [], []
    for shape in family:
        exact = LayerRun("torch.nn", cell, shape, train, torch.float64).results()
        for library in LIBRARIES:
            runs.append(LayerRun(library, cell, shape, train))
            errors.append(largest_error(runs[-1], exact))
    times = in_turn(runs, rounds, tick)
    return [
        Row(shape, cell, train, *times[place : place + 2], *errors[place : place + 2])
        for place, shape in zip(range(0, len(runs), 2), family)
    ]


def choose(only: str) -> list[list[Shape]]:
    """Return the families with the shapes whose names contain `only`."""
    families = [[shape for shape in family if only in shape.name] for family in FAMILIES]
    return [family for family in families if family]


def main(argv: Sequence[str]) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=at_least_one, default=11, help="default: %(default)s")
    parser.add_argument(
        "--threads", type=at_least_one, default=torch.get_num_threads(), help="default: %(default)s"
    )
    parser.add_argument("--only", default="", help="part of a shape's name; no picture is drawn")
    options = parser.parse_args(argv)
    families = choose(options.only)
    if not families:
        names = ", ".join(shape.name for family in FAMILIES for shape in family)
        parser.error(f"--only: expected a part of one of {names}, got {options.only!r}")
    torch.set_num_threads(options.threads)

    cases = [(f, cell, train) for f in families for cell in GATES for train in (False, True)]
    rows, peak = [], matrix_peak()
    with tqdm(total=len(cases) * options.rounds, leave=False, disable=None) as bar:
        for family, cell, train in cases:
            bar.set_description(f"{family[0].name} {cell}")
            rows += measure(family, cell, train, options.rounds, bar.update)
    peak = max(peak, matrix_peak())  # before and after, since other work may slow one of them

    setting = f"torch {torch.__version__}, {options.threads} threads"
    print(
        f"{setting}, medians of {options.rounds} rounds, float32; a large matrix product runs at "
        f"{peak / 1e9:.0f} GFLOP/s\n"
    )
    print("\n".join([*table(rows, peak), "", *summary(rows)]))
    if options.only:
        print("\nPicture: not drawn with --only")
    else:
        draw(rows, PICTURE, setting)
        print(f"\nPicture: {PICTURE}")


if __name__ == "__main__":
    main(sys.argv[1:])
