"""Time `import seqcells` in new processes that have imported torch.

python -m benchmarks.imports

Python keeps the compiled modules in files, unless PYTHONDONTWRITEBYTECODE is set. The first process
writes them to a temporary folder; the timed ones read them.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from statistics import median

from tqdm import tqdm

from benchmarks.options import at_least_one, parser_of

TIMED = """
import sys, time
import torch
before, start = set(sys.modules), time.perf_counter()
import seqcells
print(time.perf_counter() - start, len(set(sys.modules) - before), "triton" in sys.modules)
"""


def measured(environment: dict[str, str]) -> tuple[float, int, bool]:
    """Return the seconds of one import, the modules that it loads, and whether Triton is one."""
    command = [sys.executable, "-c", TIMED]
    ended = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    seconds, modules, triton = ended.stdout.split()
    return float(seconds), int(modules), triton == "True"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=at_least_one, default=20)
    options = parser.parse_args(arguments)
    environment = {key: part for key, part in os.environ.items() if "BYTECODE" not in key}
    with tempfile.TemporaryDirectory() as folder:
        environment["PYTHONPYCACHEPREFIX"] = folder
        measured(environment)
        found = [measured(environment) for _ in tqdm(range(options.rounds), disable=None)]
    milliseconds = sorted(1000 * seconds for seconds, _, _ in found)
    _, modules, triton = found[0]
    print(
        "| import seqcells, ms: median | fastest | slowest | modules | Triton |\n"
        + "|---" * 5
        + "|"
    )
    print(
        f"| {median(milliseconds):.0f} | {milliseconds[0]:.0f} | {milliseconds[-1]:.0f} "
        f"| {modules} | {'yes' if triton else 'no'} |"
    )


if __name__ == "__main__":
    main()
