"""Steppers in threads, and the allocations of a native step."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from cell_table import F64, I
from parity import random, same

import seqcells
from seqcells import Stepper
from seqcells.kernels import cpu

pytestmark = pytest.mark.skipif(bool(cpu.unavailable()), reason="no native code on this machine")


def test_a_stepper_per_thread():
    layers, inputs = seqcells.GRU(I, 32, 2, dtype=F64), random(300, I)

    def run():
        stepper = Stepper(layers)
        return torch.stack([stepper(input) for input in inputs])

    expected, found = run(), {}
    threads = [
        threading.Thread(target=lambda number=n: found.update({number: run()})) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for outputs in found.values():
        same(outputs, expected)


def test_a_second_thread_is_refused():
    stepper, input = Stepper(seqcells.LSTM(1024, 1024, dtype=F64)), random(1024)
    outcomes = []

    def run():
        for _ in range(30):
            try:
                stepper(input)
                outcomes.append("ran")
            except RuntimeError as error:
                outcomes.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = {outcome for outcome in outcomes if outcome != "ran"}
    assert refused == {
        "expected one step at a time, got a second thread; create a stepper per thread"
    }
    assert "ran" in outcomes


COUNTER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
static __thread long calls;
#define FORWARD(name, ...) ((void *(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))
void *malloc(size_t n) { ++calls; return FORWARD("malloc", size_t)(n); }
void *realloc(void *p, size_t n) { ++calls; return FORWARD("realloc", void *, size_t)(p, n); }
void *aligned_alloc(size_t a, size_t n) {
  ++calls; return FORWARD("aligned_alloc", size_t, size_t)(a, n);
}
int posix_memalign(void **p, size_t a, size_t n) {
  ++calls;
  return ((int (*)(void **, size_t, size_t))dlsym(RTLD_NEXT, "posix_memalign"))(p, a, n);
}
long count(int (*step)(void *, const void *, void *), void *stepper, void *in, void *out, int n) {
  long before = calls;
  for (int i = 0; i < n; ++i) if (step(stepper, in, out)) return -1;
  return calls - before;
}
long allocations(void) { return calls; }
"""
COUNT = """
import ctypes, sys
import torch, seqcells
counter = ctypes.PyDLL(sys.argv[1])
counter.count.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_int]
stack = seqcells.Stack([seqcells.LSTMCell(8, 24), seqcells.LayerNormGRUCell(24, 24),
                        seqcells.Zoneout(seqcells.MGUCell(24, 7), 0.1)], residual=True).eval()
assert counter.allocations() > 0
for rows in (1, 5):
    stepper = seqcells.Stepper(stack, rows)
    input, output = torch.randn(rows, 8), torch.empty(rows, 7)
    step = ctypes.cast(stepper._native.step, ctypes.c_void_p)
    arguments = stepper._native.handle, input.data_ptr(), output.data_ptr()
    print(counter.count(step, *arguments, 100))
"""


@pytest.mark.slow
def test_a_native_step_allocates_nothing(tmp_path):
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler, and the loader of Linux")
    (tmp_path / "counter.c").write_text(COUNTER)
    library = tmp_path / "counter.so"
    flags = ["-shared", "-fPIC", "-o", library, tmp_path / "counter.c", "-ldl"]
    subprocess.run([compiler, *flags], check=True)
    root = str(Path(__file__).parents[3])
    environment = os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": root}
    command = [sys.executable, "-c", COUNT, str(library)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert found.stdout.split() == ["0", "0"], found.stderr
