"""How a command ends: with its result, or with one line that says what was wrong."""

import sys
from collections.abc import Callable, Sequence

from seqcells.lab.training.interruption import InterruptedRunError
from seqcells.lab.training.loop import NonFiniteLossError

WRONG, INTERRUPTED = 2, 130


def command(main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> int:
    """Run `main`; return the exit status. What a user can set right is no traceback."""
    try:
        main(argv)
    except (ValueError, TypeError, OSError, ImportError, NonFiniteLossError) as error:
        return _say("error: " + " ".join(str(error).split()), WRONG)
    except InterruptedRunError as interruption:
        return _say(str(interruption), INTERRUPTED)
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)
    return 0


def _say(line: str, status: int) -> int:
    print(line, file=sys.stderr)
    return status
