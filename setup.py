"""Build the CPU kernel. All other settings are in setup.cfg.

The kernel is a plain shared library, built without Python headers. Without a C++ compiler the
package is installed without it, and falls back to the Python loop. A message at the end says so.
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
failures = []


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
            failures.append(error)


def build(folder, target):
    command = [*compiler.command(), *compiler.flags()]

    def compile_one(item):
        name, source, flags = item
        output = folder / name
        subprocess.run(
            [*command, *flags, "-c", str(SOURCES / source), "-o", str(output)], check=True
        )
        return str(output)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, compiler.objects(compiler.target())))
    unfinished = target.with_name("unfinished_" + target.name)
    subprocess.run([*command, "-shared", *objects, "-o", str(unfinished)], check=True)
    os.replace(unfinished, target)  # atomic: running processes keep the old library


def announce(message):
    """Print a message to the build log, and to the terminal if there is one.

    pip shows the log of a successful build only with -v, and the build is successful without the
    kernel. The terminal is opened by its own name, because pip redirects the standard streams.
    """
    print(message, file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        return
    try:
        terminal = open("/dev/tty", "w")  # noqa: SIM115
    except OSError:
        return  # not started from a terminal: the log is the only place
    with terminal:
        print(f"\n{message}", file=terminal)


setup(
    ext_modules=[Extension("seqcells.kernels.cpu._native", [str(SOURCES / "kernel.cpp")])],
    cmdclass={"build_ext": BuildKernel},
)

for failure in failures:
    announce(
        f"seqcells: the C++ kernels were not built ({failure}). seqcells is installed without them "
        "and runs a slow Python loop. Install g++ or clang++, then run: "
        "pip install --force-reinstall --no-deps ."
    )
