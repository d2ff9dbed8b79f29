"""Ctrl-C, and being told to end: finish the batch, then stop."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class InterruptedRunError(Exception):
    """Work was stopped from outside, between two batches."""


@contextmanager
def deferred_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether SIGINT or SIGTERM has come.

    The first one only sets that; a second one acts at once, as if this were not here.
    """
    came = False
    handled = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in handled}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def remember(*_) -> None:
        nonlocal came
        came = True
        restore()

    for number in handled:
        signal.signal(number, remember)
    try:
        yield lambda: came
    finally:
        restore()
