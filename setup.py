"""Builds the CPU kernel beside the package; everything else stands in setup.cfg.

The kernel is a plain shared library that no Python header takes part in. Without a C++ compiler
the package installs all the same and computes by its readable loop.
"""

import os
import platform
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = Path("seqcells/kernels/native")
FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden"]
# Fused multiply-add, and no errno or traps, which nobody reads; the rest of -ffast-math would
# undo the rounding in exp().
FLAGS += ["-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]
VARIANTS = {
    "portable": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mavx2", "-mfma"],
}


class BuildKernel(build_ext):
    """Compiles each instruction set with its own flags, then links them into one library."""

    def get_ext_filename(self, name):
        return os.path.join(*name.split(".")) + ".so"

    def build_extension(self, extension):
        compiler = shlex.split(os.environ.get("CXX", "c++"))
        folder = Path(self.build_temp)
        target = Path(self.get_ext_fullpath(extension.name))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            build(compiler, folder, target)
        except (OSError, subprocess.CalledProcessError) as error:
            if target.exists():
                target.unlink()
            print(
                f"seqcells: the CPU kernel was not built ({error}). Everything works without it, "
                "slower: seqcells.backends() says so. Install g++ or clang++ and install again.",
                file=sys.stderr,
            )


def build(compiler, folder, target):
    flags = FLAGS + os.environ.get("CXXFLAGS", "").split()
    if compiles(compiler, folder, "-fopenmp"):
        flags.append("-fopenmp")
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    names = list(VARIANTS) if x86 else ["portable"]
    jobs = [
        (f"{name}.o", "variant.cpp", [f"-DSEQCELLS_VARIANT=seqcells_{name}", *VARIANTS[name]])
        for name in names
    ]
    jobs.append(("kernel.o", "kernel.cpp", ["-DSEQCELLS_X86"] if x86 else []))

    def compile_one(job):
        name, source, more = job
        output = folder / name
        command = [*compiler, *flags, *more, "-c", str(SOURCES / source), "-o", str(output)]
        subprocess.run(command, check=True)
        return str(output)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, jobs))
    unfinished = target.with_name("unfinished_" + target.name)
    subprocess.run([*compiler, *flags, "-shared", *objects, "-o", str(unfinished)], check=True)
    os.replace(unfinished, target)  # a process that has the old one open keeps it


def compiles(compiler, folder, flag):
    """Whether the compiler makes a program with this flag."""
    source = folder / "probe.cpp"
    source.write_text("int main() { return 0; }\n")
    command = [*compiler, flag, str(source), "-o", str(folder / "probe")]
    return subprocess.run(command, capture_output=True).returncode == 0


setup(
    ext_modules=[Extension("seqcells.kernels._native", [str(SOURCES / "kernel.cpp")])],
    cmdclass={"build_ext": BuildKernel},
)
