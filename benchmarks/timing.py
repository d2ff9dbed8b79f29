"""Time functions in turn, and measure the peak speed of the machine."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

SHORTEST = 0.02  # seconds: shorter calls are repeated within a round
FEW = 3  # rounds of long calls

Clock = Callable[[Callable[[], object], int], float]
Figure = TypeVar("Figure")


def seconds(run: Callable[[], object], repeats: int = 1) -> float:
    """Return the seconds of one call, averaged over `repeats`."""
    started = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - started) / repeats


def device_seconds(run: Callable[[], object], repeats: int = 1) -> float:
    """Like `seconds`, by the GPU's clock, from the first call to the end of all work."""
    started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    started.record()
    for _ in range(repeats):
        run()
    ended.record()
    ended.synchronize()
    return started.elapsed_time(ended) / 1e3 / repeats


CLOCKS: dict[str, Clock] = {"cpu": seconds, "cuda": device_seconds}


def in_turn(
    runs: Sequence[Callable[[], object]],
    rounds: int,
    tick: Callable[[], object],
    clock: Clock = seconds,
    long: float = math.inf,
    shortest: float | None = None,
    statistic: Callable[[list[float]], Figure] = statistics.median,
) -> list[Figure]:
    """Return the median seconds of each; every round runs all, every second round in reverse.

    A call is repeated within a round until `shortest` seconds have passed (default: `SHORTEST`).
    Calls longer than `long` seconds run in the first `FEW` rounds only. `statistic` replaces the
    median over the rounds.
    """
    first = [clock(run, 1) for run in runs]
    shortest = SHORTEST if shortest is None else shortest
    repeats = [math.ceil(shortest / max(taken, 1e-6)) for taken in first]
    last = [min(rounds, FEW) if taken > long else rounds for taken in first]
    times = [[] for _ in runs]
    for number in range(rounds):
        order = range(len(runs))
        for place in order if number % 2 == 0 else reversed(order):
            if number < last[place]:
                times[place].append(clock(runs[place], repeats[place]))
        tick()
    return [statistic(several) for several in times]


def matrix_peak(
    size: int = 2048,
    rounds: int = 10,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> float:
    """Return the operations per second of a large matrix product, the best of several."""
    left, right = torch.rand(2, size, size, device=device).to(dtype).unbind()
    product = torch.empty_like(left)
    return 2 * size**3 / _best(lambda: torch.mm(left, right, out=product), rounds, device)


def copy_peak(size: int, device: str, rounds: int = 10) -> float:
    """Return the bytes read and written per second by a large copy, the best of several."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    copied = torch.empty_like(source)
    return 2 * size / _best(lambda: copied.copy_(source), rounds, device)


def _best(run: Callable[[], object], rounds: int, device: str) -> float:
    return min(CLOCKS[device](run, 1) for _ in range(rounds))
