"""Compare random cells, shapes, settings and modes with the readable loop.

python -m tests.fuzz [SECONDS] [SEED]

Each case has its own seed. The default backend and the readable loop compute it, and outputs, final
states and gradients are compared: at first, after a constant of the cell has changed, and again.
A case that differs is printed with its seed and its parts; `python -m tests.fuzz 0 SEED` runs it
alone. The exit status is 1 if any case differs.
"""

import random
import time

from tqdm import tqdm

from tests.fuzz.cases import Case
from tests.fuzz.cells import Random

__all__ = ["Case", "Random", "fuzz", "main"]

SECONDS = 60.0


def fuzz(seconds: float, seed: int, progress: bool = True, least: int = 1) -> tuple[int, list[str]]:
    """Run cases for some seconds, and at least `least`; return their number and the findings."""
    started, count, findings = time.monotonic(), 0, []
    with tqdm(unit=" cases", disable=not progress or None) as bar:
        while count < least or time.monotonic() - started < seconds:
            case = Case(seed + count)
            try:
                found = case.differences()
            except Exception as error:
                found = f"{type(error).__name__}: {error}"
            if found:
                findings.append(f"seed {seed + count}: {case.words}\n  {found[:600]}")
                tqdm.write(findings[-1])
            count += 1
            bar.update()
    return count, findings


def main(argv: list[str]) -> int:
    seconds = float(argv[0]) if argv else SECONDS
    seed = int(argv[1]) if len(argv) > 1 else random.SystemRandom().randrange(1 << 40)
    count, findings = fuzz(seconds, seed)
    print(f"{count} cases from seed {seed}: {len(findings)} differ from the readable loop.")
    return 1 if findings else 0
