"""Seconds, taken in turn; and what the machine can do at its best."""

import math
import statistics
import time
from collections.abc import Callable, Sequence

import torch

SHORTEST = 0.02  # seconds: calls that are shorter are timed several at once


def seconds(run: Callable[[], object], repeats: int = 1) -> float:
    """Of one call, on average over `repeats`."""
    started = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - started) / repeats


def in_turn(
    runs: Sequence[Callable[[], object]], rounds: int, tick: Callable[[], object]
) -> list[float]:
    """Median seconds of each; every round runs all of them, every second round backwards."""
    repeats = [math.ceil(SHORTEST / max(seconds(run), 1e-6)) for run in runs]
    times = [[] for _ in runs]
    for number in range(rounds):
        order = range(len(runs))
        for place in order if number % 2 == 0 else reversed(order):
            times[place].append(seconds(runs[place], repeats[place]))
        tick()
    return [statistics.median(several) for several in times]


def matrix_peak(size: int = 2048, rounds: int = 10) -> float:
    """Operations a second of a large float32 matrix product, the best of several."""
    left, right = torch.rand(2, size, size).unbind()
    product = torch.empty(size, size)
    best = min(seconds(lambda: torch.mm(left, right, out=product)) for _ in range(rounds))
    return 2 * size**3 / best
