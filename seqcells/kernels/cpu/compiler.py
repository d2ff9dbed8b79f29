"""Compile native code: the built-in kernels at install, kernels of user-defined cells on first use.

`setup.py` runs this file, so it imports only the standard library.
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
from typing import NamedTuple

NATIVE = Path(__file__).parent / "native"

FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden"]
# Use fused multiply-add, and do not set errno or traps, which are unused. The other options of
# -ffast-math would break the rounding in exp().
FLAGS += ["-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]

# Compiler flags of each instruction set, by its name in native/kernel.cpp.
VARIANTS = {
    "portable": [],
    "AVX2": ["-mavx2", "-mfma"],
    "AVX-512": ["-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mavx2", "-mfma"],
    "NEON": ["-DSEQCELLS_FOUR_REGISTERS"],
}


class Target(NamedTuple):
    """How to build the library for an operating system and a processor.

    Attributes:
        variants: the instruction sets to compile, in `VARIANTS`.
        defines: flags of native/kernel.cpp, which lists the instruction sets.
        threads: whether to use OpenMP if the compiler has it.
    """

    variants: tuple[str, ...]
    defines: tuple[str, ...]
    threads: bool


def target(system: str = platform.system(), machine: str = platform.machine()) -> Target:
    """Return how to build for a system and a machine, by their names in `platform`.

    The library selects the instruction set when it runs, so that no build uses -march=native or
    -mcpu=native. It refers to no symbol of Python, so that -shared suffices to link it on every
    system. Its suffix is .so on every system, as that of Python's extension modules.

    On macOS the library has no OpenMP. Apple's compiler has none, and a runtime of another compiler
    next to the one in torch aborts the process.
    """
    threads = system != "Darwin"
    match machine.lower():
        case "x86_64" | "amd64":
            return Target(("portable", "AVX2", "AVX-512"), ("-DSEQCELLS_X86",), threads)
        case "aarch64" | "arm64":
            return Target(("NEON",), ("-DSEQCELLS_NEON",), threads)
        case _:
            return Target(("portable",), (), threads)


def objects(built_for: Target) -> list[tuple[str, str, list[str]]]:
    """Return the file name, the source and the flags of each object of the library."""
    found = []
    for variant in built_for.variants:
        name = variant.lower().replace("-", "")
        flags = [f"-DSEQCELLS_VARIANT=seqcells_{name}", *VARIANTS[variant]]
        found.append((f"{name}.o", "variant.cpp", flags))
    return [*found, ("kernel.o", "kernel.cpp", list(built_for.defines))]


def command() -> list[str]:
    """Return the compiler command: `CXX`, or c++."""
    return shlex.split(os.environ.get("CXX", "c++"))


def flags() -> list[str]:
    """Return the compiler flags that all instruction sets share."""
    more = os.environ.get("CXXFLAGS", "").split()
    threads = target().threads and _has_openmp(tuple(command()))
    return [*FLAGS, *more, *(["-fopenmp"] if threads else [])]


@functools.cache
def _has_openmp(compiler: tuple[str, ...]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.cpp")
        source.write_text("int main() { return 0; }\n")
        probe = [*compiler, "-fopenmp", str(source), "-o", str(source.with_suffix(""))]
        return subprocess.run(probe, capture_output=True).returncode == 0


def cache_folder() -> Path:
    """Return the cache of compiled kernels, in `$SEQCELLS_CACHE` or `~/.cache/seqcells`."""
    return Path(os.environ.get("SEQCELLS_CACHE") or Path.home() / ".cache" / "seqcells", "kernels")


def compile_library(header: str, variant: str) -> Path:
    """Compile native/custom_cell.cpp with the cell in this header; return the cached library.

    The file name is a hash of the header, the native sources, the compiler with its version, and
    the flags.

    Raises:
        OSError, subprocess.CalledProcessError: there is no compiler, or it fails.
    """
    options = [*flags(), *VARIANTS[variant], "-DSEQCELLS_VARIANT=seqcells_custom"]
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
        source, unfinished = Path(folder, "custom_cell.hpp"), Path(folder, library.name)
        source.write_text(header)
        if sys.stderr.isatty():
            print("seqcells: compiling a kernel (cached for later runs)", file=sys.stderr)
        options = [*options, f'-DSEQCELLS_CELLS_FROM="{source}"', "-I", str(NATIVE), "-shared"]
        files = [str(NATIVE / "custom_cell.cpp"), "-o", str(unfinished)]
        subprocess.run([*command(), *options, *files], check=True, capture_output=True, text=True)
        os.replace(unfinished, library)
