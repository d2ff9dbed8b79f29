"""Time our layers against torch.nn's: forward and backward, interleaved, medians, as ratios.

python -m benchmarks.speed
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from tqdm import tqdm

import seqcells

SHAPES = {
    "step: T=200 B=1 I=100 H=64": (200, 1, 100, 64),
    "small: T=200 B=32 I=100 H=128": (200, 32, 100, 128),
    "medium: T=200 B=64 I=100 H=256": (200, 64, 100, 256),
    "ragged: T<=400 B=64 I=100 H=128": (400, 64, 100, 128),
}


def seconds(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def compare(
    kind: str, shape: tuple[int, int, int, int], ragged: bool, train: bool, rounds: int
) -> tuple[float, float]:
    """Median seconds of torch.nn's layer and of ours, the same weights, round by round."""
    T, B, I, H = shape  # noqa: E741
    theirs, ours = getattr(nn, kind)(I, H), getattr(seqcells, kind)(I, H)
    ours.load_state_dict(theirs.state_dict())
    inputs = torch.randn(T, B, I)
    lengths = torch.randint(80, T + 1, (B,)) if ragged else None

    def run_theirs() -> torch.Tensor:
        if lengths is None:
            return theirs(inputs)[0]
        return theirs(pack_padded_sequence(inputs, lengths, enforce_sorted=False))[0].data

    def run_ours() -> torch.Tensor:
        return ours(inputs, lengths=lengths)[0]

    def timed(run: Callable[[], torch.Tensor]) -> float:
        if train:
            return seconds(lambda: run().sum().backward())
        with torch.no_grad():
            return seconds(run)

    pairs = [(timed(run_theirs), timed(run_ours)) for _ in range(rounds + 1)][1:]
    return tuple(statistics.median(side) for side in zip(*pairs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    cases = [
        (name, kind, train)
        for name in SHAPES
        for kind in ("RNN", "GRU", "LSTM")
        for train in (False, True)
    ]
    print(f"torch {torch.__version__}, {options.threads} threads, {options.rounds} rounds\n")
    print("| shape | layer | mode | torch.nn, ms | seqcells, ms | torch.nn / seqcells |")
    print("|---|---|---|---|---|---|")
    for name, kind, train in tqdm(cases, leave=False, disable=None):
        theirs, ours = compare(kind, SHAPES[name], name.startswith("ragged"), train, options.rounds)
        mode = "training" if train else "inference"
        row = f"{1e3 * theirs:.1f} | {1e3 * ours:.1f} | {theirs / ours:.2f}"
        tqdm.write(f"| {name} | {kind} | {mode} | {row} |")


if __name__ == "__main__":
    main()
