"""Early termination: exceptions, signals, and the exit status of a command."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from seqcells.lab.extras import remedy
from seqcells.lab.failure import print_failure

USER_ERROR, INTERRUPTED = 2, 130  # exit statuses


class InterruptedRunError(Exception):
    """Raised between two batches after a signal."""


class NonFiniteLossError(ArithmeticError):
    """Raised when a loss or a gradient is not finite."""


@contextmanager
def deferred_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether SIGINT or SIGTERM has arrived.

    The first signal is only recorded. The second has its default effect.
    """
    arrived = False
    handled = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in handled}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def record(*_) -> None:
        nonlocal arrived
        arrived = True
        restore()

    for number in handled:
        signal.signal(number, record)
    try:
        yield lambda: arrived
    finally:
        restore()


@contextmanager
def interruptible(message: str) -> Iterator[None]:
    """Raise an `InterruptedRunError` with this message when SIGINT or SIGTERM arrives."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedRunError(message) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def never_interrupted() -> bool:
    """Return False: the default for callers that do not defer signals."""
    return False


def command(main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> int:
    """Run `main` and return the exit status. User errors print one line without a traceback.

    A missing package of an extra is a user error, any other missing module is not.
    """
    try:
        main(argv)
    except ModuleNotFoundError as error:
        line = remedy(error)
        if line is None:
            raise
        return _report(f"error: {line}", USER_ERROR)
    except (ValueError, TypeError, OSError, ImportError, NonFiniteLossError) as error:
        return _report("error: " + " ".join(str(error).split()), USER_ERROR)
    except InterruptedRunError as interruption:
        return _report(str(interruption), INTERRUPTED)
    except KeyboardInterrupt:
        return _report("interrupted", INTERRUPTED)
    return 0


def _report(line: str, status: int) -> int:
    print_failure(line)
    return status
