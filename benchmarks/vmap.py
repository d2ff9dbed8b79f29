"""Time `torch.vmap` over weights against the readable loop, which it ran before.

python -m benchmarks.vmap

E models of 32 inputs and 64 units read 50 steps of the same inputs. Inference is
`vmap(functional_call)`, training is `vmap(grad(loss))`, and per sample are the gradients of one
model for E samples, each a batch. Both columns of a row are timed in turn, on one thread, by the
processor time of the process: other work on the machine changes it little. The loop is
`seqcells.backend("reference")`.
"""

import argparse
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from tqdm import tqdm

import seqcells
from benchmarks.options import at_least_one, parser_of
from benchmarks.timing import in_turn
from benchmarks.variants import OwnLSTM

SEED, STEPS, INPUTS, UNITS = 0, 50, 32, 64
MODELS, ROWS = (4, 16, 64), (1, 8)
CELLS: dict[str, Callable[[], nn.Module]] = {
    "GRU": lambda: seqcells.GRU(INPUTS, UNITS),
    "LSTM": lambda: seqcells.LSTM(INPUTS, UNITS),
    "RNN": lambda: seqcells.RNN(INPUTS, UNITS),
    "own LSTM": lambda: seqcells.Recurrent(OwnLSTM(INPUTS, UNITS)),
}
HEADER = (
    "| cell | models | rows each | mode | loop, ms | kernel, ms | factor |\n" + "|---" * 7 + "|"
)

Run = Callable[[], Any]


def modes(make: Callable[[], nn.Module], models: int, rows: int) -> dict[str, Run]:
    """Return the timed calls by name."""
    torch.manual_seed(SEED)
    several = [make() for _ in range(models)]
    base = several[0]
    stacked = {name: part.detach() for name, part in stack_module_state(several)[0].items()}
    single = {name: part.detach() for name, part in base.named_parameters()}
    inputs = torch.randn(models, STEPS, rows, INPUTS)

    def outputs(parameters: dict[str, Tensor], inputs: Tensor) -> Tensor:
        found: Tensor = functional_call(base, parameters, (inputs,))[0]
        return found

    def loss(parameters: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return outputs(parameters, inputs).sum()

    return {
        "inference": lambda: vmap(outputs, (0, None))(stacked, inputs[0]),
        "training": lambda: vmap(grad(loss), (0, None))(stacked, inputs[0]),
        "per sample": lambda: vmap(grad(loss), (None, 0))(single, inputs),
    }


def processor_seconds(run: Callable[[], object], repeats: int = 1) -> float:
    """Return the processor time of one call, averaged over `repeats`."""
    started = time.process_time()
    for _ in range(repeats):
        run()
    return (time.process_time() - started) / repeats


def by_loop(run: Run) -> None:
    """Run a call on the readable loop."""
    with seqcells.backend("reference"):
        run()


def lines(
    cells: Sequence[str], models: Sequence[int], rounds: int, tick: Callable[[], object]
) -> Iterator[str]:
    """Yield the table's lines."""
    yield HEADER
    for name in cells:
        for count in models:
            for rows in ROWS:
                for mode, run in modes(CELLS[name], count, rows).items():
                    loop, kernel = in_turn(
                        [functools.partial(by_loop, run), run], rounds, tick, processor_seconds
                    )
                    yield (
                        f"| {name} | {count} | {rows} | {mode} | {loop * 1e3:.1f} | "
                        f"{kernel * 1e3:.2f} | {loop / kernel:.1f} |"
                    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=at_least_one, default=10)
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--models", nargs="+", type=at_least_one, default=list(MODELS))
    options: argparse.Namespace = parser.parse_args(arguments)
    torch.set_num_threads(1)
    total = len(options.cells) * len(options.models) * len(ROWS) * 3 * options.rounds
    with tqdm(total=total) as bar:
        found = list(lines(options.cells, options.models, options.rounds, bar.update))
    print("\n".join(found))


if __name__ == "__main__":
    main()
