"""Seed each deliberate fault in turn, and report the first test that fails.

python -m tests.faults
python -m tests.faults --only cells/,noise.py
python -m tests.faults --suite tests/core/test_cells.py

Works on a copy of the repository. Native code is rebuilt for faults in it. The faults in the code
for ARM need the cross compiler and the emulator of tests/core/kernels/test_arm.py. The exit status
is 1 if no test catches a fault.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.catalogue import FAULTS, Fault

ROOT = Path(__file__).parents[2]
OPTIONS = ["-n", "2", "-x", "-q", "-p", "no:cacheprovider"]


def copy_of_repository(folder: Path) -> Path:
    """Return a copy with the tracked files and the native library."""
    names = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    names += [str(path.relative_to(ROOT)) for path in (ROOT / "seqcells").rglob("_native*.so")]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return folder


def build(folder: Path) -> None:
    """Build the native library of the copy."""
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--force"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def first_failure(folder: Path, suite: list[str]) -> str | None:
    """Run tests; return the name of the first one that fails, None if all pass."""
    command = [sys.executable, "-m", "pytest", *OPTIONS, *suite]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if ended.returncode == 0:
        return None
    for line in ended.stdout.splitlines():
        if line.startswith(("FAILED", "ERROR")):
            return line.split(" - ")[0].split(maxsplit=1)[1]
    return "the run itself: " + (ended.stdout + ended.stderr)[-200:].replace("\n", " ")


def seeded(fault: Fault, folder: Path, suite: list[str]) -> str | None:
    """Return the first failure with a fault in the copy, which is restored afterwards."""
    file, native = folder / "seqcells" / fault.path, "/native/" in fault.path
    changed = [file, *((folder / "seqcells").rglob("_native*.so") if native else [])]
    before = {path: path.read_bytes() for path in changed}
    file.write_text(file.read_text().replace(fault.original, fault.replacement))
    try:
        if fault.slow_tests:
            return first_failure(folder, [fault.slow_tests])
        if native:
            build(folder)
        return first_failure(folder, ["-m", "not slow", *suite])
    finally:
        for path, content in before.items():
            path.write_bytes(content)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="beginnings of paths, with commas")
    parser.add_argument("--suite", nargs="*", default=[], help="tests to run, by default all")
    options = parser.parse_args()
    chosen = [f for f in FAULTS if f.path.startswith(tuple(options.only.split(",")))]
    missed = 0
    print("| fault | caught by | seconds |\n|---|---|---:|")
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_of_repository(Path(folder))
        for fault in chosen:
            started = time.monotonic()
            failure = seeded(fault, copy, options.suite)
            missed += failure is None
            change = " ".join(f"{fault.original} -> {fault.replacement or 'nothing'}".split())
            seconds = time.monotonic() - started
            row = f"`{fault.path}`: `{change}` | {failure or '**none**'} | {seconds:.0f}"
            print(f"| {row} |", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} faults caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
