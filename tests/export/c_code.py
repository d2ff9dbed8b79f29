"""Compile exported C code, run its self-test, and call it in a shared library."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"]
COMPILERS = {
    "gcc": ["gcc", "-std=c99", "-O3", "-march=native"],
    "gcc for AVX2": ["gcc", "-std=c99", "-O3", "-march=haswell"],
    "gcc, plain": ["gcc", "-std=c99", "-O3"],
    "gcc as C++": ["g++", "-x", "c++", "-O1"],
    "clang": ["clang", "-std=c99", "-O3"],
    "clang as C++": ["clang++", "-x", "c++", "-O1"],
    "sanitizers": ["gcc", "-std=c99", "-O1", *SANITIZERS],
}
CORTEX = ["arm-none-eabi-gcc", "-std=c99", "-O2", "-mcpu=cortex-m4", "-mthumb", "-c"]
CORTEX += ["-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]
AARCH64 = ["aarch64-linux-gnu-gcc", "-std=c99", "-O3", "-static"]
CPU = Path("/proc/cpuinfo")
FLAGS_OF_THE_CPU = CPU.read_text().split() if CPU.exists() else []


def compile_files(folder, compiler, *options, name="net", test=True):
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"needs {compiler[0]}")
    if "-march=haswell" in compiler and "avx2" not in FLAGS_OF_THE_CPU:
        pytest.skip("needs AVX2")
    sources = [f"{name}.c", *([f"{name}_test.c"] if test else [])]
    command = [*compiler, *WARNINGS, *sources, *options]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def self_test(folder, *launcher):
    ended = subprocess.run([*launcher, "./net_test"], cwd=folder, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("passed") == 2
    assert not ended.stderr


class Net:
    """The C code in a shared library."""

    def __init__(self, folder, embedded=True, name="net", extra=()):
        compiler = ["gcc", "-std=c99", "-O2", "-shared", "-fPIC"]
        compile_files(folder, compiler, *extra, "-lm", "-onet.so", name=name, test=False)
        library = ctypes.CDLL(str(folder / "net.so"))
        self.library, self.name = library, name
        header = (folder / f"{name}.h").read_text()
        self.outputs = int(re.search(rf"{name}_output_size = (\d+)", header)[1])
        self.state = ctypes.create_string_buffer(1 << 20)
        if not embedded:
            self.weights = (folder / f"{name}.bin").read_bytes()
            size = ctypes.c_size_t(len(self.weights))
            assert self.function("open")(self.state, self.weights, size) == 0
        self.reset()

    def function(self, name):
        return getattr(self.library, f"{self.name}_{name}")

    def reset(self):
        self.function("reset")(self.state)

    def step(self, input):
        """Return the output for a vector or the number of a word."""
        output = torch.empty(self.outputs)
        word = isinstance(input, int)
        argument = ctypes.c_int32(input) if word else ctypes.c_void_p(input.data_ptr())
        self.function("step")(self.state, argument, ctypes.c_void_p(output.data_ptr()))
        return output

    def run(self, inputs):
        outputs = torch.empty(len(inputs), self.outputs)
        source, target = (ctypes.c_void_p(part.data_ptr()) for part in (inputs, outputs))
        self.function("run")(self.state, source, ctypes.c_long(len(inputs)), target)
        return outputs


def error_of(found, exact):
    """Return the error relative to the largest output, as rounding adds up over the steps."""
    return ((found.double() - exact).abs().max() / exact.abs().max()).item()


def assert_near(found, exact, single):
    """Require the result of float64 within 1e-6, or twice the error of PyTorch in float32."""
    assert error_of(found, exact) <= max(1e-6, 2 * error_of(single, exact))
