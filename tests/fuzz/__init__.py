"""Random cells, shapes, settings and modes against the readable loop.

python -m tests.fuzz [SECONDS] [SEED]

Each case is drawn from a seed of its own. The default backend and the readable loop compute it, and
outputs, final states and gradients are compared: first, after a constant of the cell has changed,
and again. A case that differs is printed with its seed and its parts;
`python -m tests.fuzz 0 SEED` runs it alone. The exit status is 1 if any case differs.
"""

import random
import time

from tqdm import tqdm

from tests.fuzz.cases import Case
from tests.fuzz.cells import Random

__all__ = ["Case", "Random", "fuzz", "main"]

SECONDS = 60.0


def fuzz(seconds: float, seed: int, progress: bool = True) -> tuple[int, list[str]]:
    """Return the number of cases run and the findings. Run one case if `seconds` is 0."""
    started, count, findings = time.monotonic(), 0, []
    with tqdm(unit=" cases", disable=not progress or None) as bar:
        while count == 0 or time.monotonic() - started < seconds:
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
