"""Build the CPU kernel. All other settings are in setup.cfg.

The kernel is a plain shared library, built without Python headers. Without a C++ compiler the
package is installed without it, and falls back to the Python loop. A message at the end says so.
A wheel with the kernel supports each version of Python, and one without it each platform too.
"""

import os
import platform
import re
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

SOURCES = Path("seqcells/kernels/cpu/native")
KERNEL = "seqcells.kernels.cpu._native"
# The oldest glibc that the wheels of torch support, and what the tag manylinux_2_28 allows a
# library to need: versions of symbols, and libraries. torch brings libgomp.
OLDEST = (2, 28)
SYMBOLS = {"GLIBC": OLDEST, "GLIBCXX": (3, 4, 24), "CXXABI": (1, 3, 11), "GCC": (7, 0, 0)}
LIBRARIES = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1"}
LIBRARIES |= {"libstdc++.so.6", "libgcc_s.so.1", "libgomp.so.1"}
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


class BuildWheel(bdist_wheel):
    """Tag the wheel with what the kernel needs: no version of Python, and a version of glibc."""

    def get_tag(self):
        kernel = Path(self.get_finalized_command("build_ext").get_ext_fullpath(KERNEL))
        self.root_is_pure = not kernel.exists()
        name = super().get_tag()[2]
        if kernel.exists() and name.startswith("linux") and not self.plat_name_supplied:
            name = portable_tag(kernel.read_bytes(), name, *platform.libc_ver())
        return "py3", "none", name


def portable_tag(library, name, libc, version):
    """Return the manylinux tag of a library, or `name`, the tag of this machine alone.

    The library runs with the glibc of this machine and later ones. If it needs no symbols that are
    newer than manylinux_2_28, it runs with the glibc of that tag too.

    Args:
        library: the content of the file. Its names end with a zero byte.
        name: the tag of the machine, such as linux_x86_64.
        libc, version: the C library of this machine, such as "glibc" and "2.36".
    """
    needed = {found.decode() for found in re.findall(rb"\0(lib[\w+-]+\.so[\d.]*)(?=\0)", library)}
    if libc != "glibc" or not needed <= LIBRARIES:
        return name
    symbols = re.findall(rb"\0(GLIBC|GLIBCXX|CXXABI|GCC)_([\d.]+)(?=\0)", library)
    limits = ((SYMBOLS[kind.decode()], numbers(found.decode())) for kind, found in symbols)
    own = numbers(version)
    tag = min(own, OLDEST) if all(found <= limit for limit, found in limits) else own
    return "_".join(["manylinux", *map(str, tag), name.removeprefix("linux_")])


def numbers(version):
    return tuple(int(part) for part in version.split("."))


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
    ext_modules=[Extension(KERNEL, [str(SOURCES / "kernel.cpp")])],
    cmdclass={"build_ext": BuildKernel, "bdist_wheel": BuildWheel},
)

for failure in failures:
    announce(
        f"seqcells: the C++ kernels were not built ({failure}). seqcells is installed without them "
        "and runs a slow Python loop. Install g++ or clang++, then run: "
        "pip install --force-reinstall --no-deps ."
    )
