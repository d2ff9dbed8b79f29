"""Measure the memory of a step as the peak resident size, ours against torch.nn's.

python -m benchmarks.memory

Each figure is from a fresh process: the increase of its peak size over some steps, after the
libraries are imported and layer and data exist.
"""

import multiprocessing
import resource
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from tqdm import tqdm

from benchmarks.options import at_least_one, parser_of
from benchmarks.shapes import GATES, SHAPES, Shape

# Only the measured processes import torch: on Linux the peak size of a process starts from that of
# its parent, which must stay small.

NAMES = ("medium", "large", "ragged")
UNIT = 1 if sys.platform == "darwin" else 1024  # bytes per unit of ru_maxrss


def largest_size() -> int:
    """Return the peak size of this process in bytes."""
    return UNIT * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def grow(library: str, cell: str, shape: Shape, train: bool, steps: int, threads: int) -> int:
    """Run some steps; return the increase of the peak size in bytes."""
    import torch

    from benchmarks.layers import LayerRun

    torch.set_num_threads(threads)
    run = LayerRun(library, cell, shape, train)
    before = largest_size()
    for _ in range(steps):
        run()
    return largest_size() - before


def main(argv: Sequence[str]) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--steps", type=at_least_one, default=5, help="default: %(default)s")
    parser.add_argument(
        "--threads",
        type=at_least_one,
        default=multiprocessing.cpu_count(),
        help="default: %(default)s",
    )
    options = parser.parse_args(argv)
    cases = [
        (SHAPES[name], cell, train) for name in NAMES for cell in GATES for train in (False, True)
    ]
    print(f"{options.steps} steps, {options.threads} threads; increase of the peak resident size\n")
    print("| shape | layer | mode | torch.nn, MB | seqcells, MB | torch.nn / seqcells |")
    print("|---|---|---|---:|---:|---:|")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as fresh:
        for shape, cell, train in tqdm(cases, leave=False, disable=None):
            theirs, ours = (
                fresh.submit(
                    grow, library, cell, shape, train, options.steps, options.threads
                ).result()
                for library in ("torch.nn", "seqcells")
            )
            mode = "training" if train else "inference"
            sizes = f"{theirs / 1e6:.1f} | {ours / 1e6:.1f} | {theirs / ours:.2f}"
            tqdm.write(f"| {shape} | {cell} | {mode} | {sizes} |")


if __name__ == "__main__":
    main(sys.argv[1:])
