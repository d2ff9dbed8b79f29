"""Compiles native code: the kernels at install, a user's own when it is first used.

Nothing is imported here that is not in Python itself, as `setup.py` reads this file.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

NATIVE = Path(__file__).parent / "native"

FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden"]
# Fused multiply-add, and no errno or traps, which nobody reads; the rest of -ffast-math would
# undo the rounding in exp().
FLAGS += ["-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]

# The instruction sets by the names that native/kernel.cpp gives them.
VARIANTS = {
    "portable": [],
    "AVX2": ["-mavx2", "-mfma"],
    "AVX-512": ["-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mavx2", "-mfma"],
}


def x86() -> bool:
    """Whether this machine has more than the portable instruction set."""
    return platform.machine().lower() in ("x86_64", "amd64")


def command() -> list[str]:
    """The compiler, as `CXX` names it."""
    return shlex.split(os.environ.get("CXX", "c++"))


def flags() -> list[str]:
    """All but those of an instruction set."""
    more = os.environ.get("CXXFLAGS", "").split()
    return [*FLAGS, *more, *(["-fopenmp"] if _has_openmp(tuple(command())) else [])]


@functools.cache
def _has_openmp(compiler: tuple[str, ...]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.cpp")
        source.write_text("int main() { return 0; }\n")
        probe = [*compiler, "-fopenmp", str(source), "-o", str(source.with_suffix(""))]
        return subprocess.run(probe, capture_output=True).returncode == 0


def cache_folder() -> Path:
    """Where compiled kernels stay: `kernels` in `$SEQCELLS_CACHE` or `~/.cache/seqcells`."""
    return Path(os.environ.get("SEQCELLS_CACHE") or Path.home() / ".cache" / "seqcells", "kernels")


def compiled(header: str, variant: str) -> Path:
    """The library of native/own.cpp with this header's cells, compiled unless it is cached.

    Its name tells all that it was made from: the header, the code around it, the compiler and
    its version, the flags.

    Raises:
        OSError, subprocess.CalledProcessError: without a compiler that can do it.
    """
    options = [
        *flags(),
        *VARIANTS[variant],
        "-DSEQCELLS_VARIANT=seqcells_own",
    ]
    version = subprocess.run([*command(), "--version"], capture_output=True, check=True).stdout
    parts = [header, *(path.read_text() for path in sorted(NATIVE.glob("*.?pp"))), *command()]
    digest = hashlib.sha256("\0".join([*parts, *options]).encode() + version).hexdigest()
    library = cache_folder() / f"{digest[:32]}.so"
    if not library.exists():
        library.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _compile(header, options, library)
    return library


def _compile(header: str, options: Sequence[str], library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        source, unfinished = Path(folder, "own.hpp"), Path(folder, library.name)
        source.write_text(header)
        if sys.stderr.isatty():
            print("seqcells: compiling a kernel, once", file=sys.stderr)
        given = f'-DSEQCELLS_CELLS_FROM="{source}"'
        code = [str(NATIVE / "own.cpp"), "-I", str(NATIVE), "-shared", "-o", str(unfinished)]
        subprocess.run(
            [*command(), *options, given, *code], check=True, capture_output=True, text=True
        )
        os.replace(unfinished, library)
