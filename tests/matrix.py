"""Run the quick tests with several versions of Python and torch, and print a table.

python -m tests.matrix                                    the oldest and the newest torch
python -m tests.matrix 3.11:2.7.1 3.13:2.13.0             these rows
python -m tests.matrix 3.13=/path/to/python3.13:2.13.0    with this interpreter

Each row has a virtual environment in build/matrix, which is reused. On Linux, PyPI's torch below
2.13 brings CUDA with it, 7 GB; set PIP_INDEX_URL or PIP_EXTRA_INDEX_URL for another index.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "matrix"
OLDEST, COUNTS = "2.7.1", ("passed", "failed", "errors", "skipped")
ARGUMENTS = ("-m", "not slow", "-q", "--tb=short", "-p", "no:logging")


class Row(NamedTuple):
    """One environment: the interpreter, its version, and the version of torch."""

    interpreter: str
    python: str
    torch: str

    @property
    def folder(self) -> Path:
        return FOLDER / f"{self.python}-{self.torch}"


def parse_row(text: str) -> Row:
    """Return the row that `VERSION:TORCH` or `VERSION=INTERPRETER:TORCH` describes."""
    found = re.fullmatch(r"(3\.\d+)(?:=(.+))?:(\d+\.\d+\.\d+)", text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"expected PYTHON:TORCH, such as 3.11:2.7.1, or PYTHON=INTERPRETER:TORCH, got {text!r}"
        )
    python, interpreter, torch = found.groups()
    return Row(interpreter or f"python{python}", python, torch)


def default_rows(constraints: Iterable[str]) -> list[Row]:
    """Return rows of this Python with the oldest torch, and the one that constraints.txt pins."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    (newest,) = (
        line.strip()[len("torch==") :] for line in constraints if line.startswith("torch==")
    )
    return [Row(sys.executable, python, version) for version in (OLDEST, newest)]


def constraints_for(row: Row, lines: Sequence[str]) -> list[str]:
    """Return the constraints of a row: those of constraints.txt, with another torch.

    The interpreter of Triton 3.6 and older, which only tests use, needs NumPy below 2.4.
    """
    newest = f"torch=={row.torch}" in lines
    replaced = r"(torch|triton)==" if newest else r"(torch|triton|numpy)=="
    others = [line for line in lines if not re.match(replaced, line)]
    return [*others, f"torch=={row.torch}", *([] if newest else ["numpy<2.4"]), ""]


def counts_of(output: str) -> dict[str, int]:
    """Return the numbers in the last line of pytest's output, by outcome."""
    lines = [line for line in output.splitlines() if re.search(r"\d+ \w+.* in \d", line)]
    if not lines:
        raise ValueError(f"expected a summary of pytest, got:\n{output[-2000:]}")
    found = {
        word if word != "error" else "errors": int(number)
        for number, word in re.findall(r"(\d+) (\w+)", lines[-1])
    }
    return {name: found.get(name, 0) for name in COUNTS}


def table(results: Sequence[tuple[Row, dict[str, int]]]) -> str:
    """Return the counts as a table in Markdown."""
    lines = [
        f"| Python | torch | {' | '.join(COUNTS)} |",
        f"|---|---|{'---:|' * len(COUNTS)}",
    ]
    for row, counts in results:
        numbers = " | ".join(f"{counts[name]:,}" for name in COUNTS)
        lines.append(f"| {row.python} | {row.torch} | {numbers} |")
    return "\n".join(lines)


def prepare(row: Row) -> Path:
    """Create the row's environment unless it exists; return its interpreter."""
    python, ready = row.folder / "bin" / "python", row.folder / "ready"
    if ready.exists():
        return python
    print(f"creating {row.folder}", flush=True)
    subprocess.run([row.interpreter, "-m", "venv", str(row.folder)], check=True)
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = row.folder / "constraints.txt"
    pinned.write_text("\n".join(constraints_for(row, lines)), encoding="utf-8")
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    install += ["--constraint", str(pinned)]
    # Tests import setup.py, and older versions of torch bring an older setuptools.
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]
    subprocess.run([*install, f"torch=={row.torch}", *build["requires"]], check=True)
    subprocess.run([*install, "--editable", f"{ROOT}[train,dev]"], check=True)
    ready.touch()
    return python


def run(row: Row, arguments: Sequence[str]) -> dict[str, int]:
    """Run the quick tests in the row's environment; return the counts."""
    python, report = prepare(row), row.folder / "output.txt"
    print(f"testing {row.folder.name}; output in {report}", flush=True)
    path = os.pathsep.join([str(row.folder / "bin"), os.environ.get("PATH", "")])
    command = [str(python), "-m", "pytest", *ARGUMENTS, *arguments]
    with report.open("w", encoding="utf-8") as file:
        subprocess.run(
            command,
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PATH": path},
        )
    return counts_of(report.read_text(encoding="utf-8"))


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", type=parse_row, metavar="PYTHON[=INTERPRETER]:TORCH")
    options, arguments = parser.parse_known_args(argv)
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    rows = options.rows or default_rows(lines)
    results = [(row, run(row, arguments)) for row in rows]
    print(f"\n{platform.system()} {platform.machine()}\n\n{table(results)}")
    return int(any(counts["failed"] or counts["errors"] for _, counts in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
