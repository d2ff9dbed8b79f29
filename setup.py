"""Build the CPU kernel. All other settings are in setup.cfg.

The kernel is a plain shared library, built without Python headers. Without a C++ compiler the
package is installed without it, and falls back to the Python loop.
"""

import os
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = Path("seqcells/kernels/cpu/native")
compiler = SimpleNamespace(**runpy.run_path("seqcells/kernels/cpu/compiler.py"))


class BuildKernel(build_ext):
    """Compile each instruction set with its own flags, and link them into one library."""

    def get_ext_filename(self, name):
        return os.path.join(*name.split(".")) + ".so"

    def build_extension(self, extension):
        folder = Path(self.build_temp)
        target = Path(self.get_ext_fullpath(extension.name))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            build(folder, target)
        except (OSError, subprocess.CalledProcessError) as error:
            if target.exists():
                target.unlink()
            print(
                f"seqcells: the CPU kernel was not built ({error}). seqcells falls back to a "
                "slower Python loop: see seqcells.backends(). Install g++ or clang++ and reinstall "
                "seqcells.",
                file=sys.stderr,
            )


def build(folder, target):
    command = [*compiler.command(), *compiler.flags()]
    variants = compiler.VARIANTS if compiler.x86() else {"portable": []}
    jobs = []
    for name, flags in variants.items():
        name = name.lower().replace("-", "")
        jobs.append((f"{name}.o", "variant.cpp", [f"-DSEQCELLS_VARIANT=seqcells_{name}", *flags]))
    jobs.append(("kernel.o", "kernel.cpp", ["-DSEQCELLS_X86"] if compiler.x86() else []))

    def compile_one(job):
        name, source, flags = job
        output = folder / name
        subprocess.run(
            [*command, *flags, "-c", str(SOURCES / source), "-o", str(output)], check=True
        )
        return str(output)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, jobs))
    unfinished = target.with_name("unfinished_" + target.name)
    subprocess.run([*command, "-shared", *objects, "-o", str(unfinished)], check=True)
    os.replace(unfinished, target)  # atomic: running processes keep the old library


setup(
    ext_modules=[Extension("seqcells.kernels.cpu._native", [str(SOURCES / "kernel.cpp")])],
    cmdclass={"build_ext": BuildKernel},
)
