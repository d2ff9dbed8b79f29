"""The warning about kernels that are not installed."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from parity import close, leaves
from torch import nn

import seqcells
from seqcells import MissingKernelWarning, Recurrent, Stack, backend
from seqcells.kernels import cpu
from seqcells.recurrence import missing_kernel

T, B, I, H = 5, 3, 4, 6  # noqa: E741
REASON = "the kernels were not built; install a compiler"

# Run each case in a fork, so that each is the first call of a process.
FIRST_CALLS = """
import json, os, sys, warnings
import torch, seqcells

class Own(seqcells.GatedCell):
    gates = ("update",)

    def activate(self, from_input, from_hidden, state):
        update = (from_input + from_hidden).sigmoid()
        return update * state + 1 - update, (update,)

gru, own = seqcells.GRUCell(4, 6), Own(4, 6)
inputs = torch.ones(5, 3, 4)
CASES = {
    "layer": lambda: seqcells.LSTM(4, 6)(inputs),
    "recurrent": lambda: seqcells.Recurrent(gru)(inputs),
    "cell": lambda: gru(inputs[0]),
    "own": lambda: seqcells.Recurrent(own)(inputs),
}
print(json.dumps(seqcells.backends()["cpu"]), flush=True)
for name, run in CASES.items():
    for hidden in (False, True):
        if os.fork():
            os.wait()
            continue
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if hidden:
                warnings.filterwarnings("ignore", category=seqcells.MissingKernelWarning)
            run(); run()
        found = [(str(w.message), w.category.__name__, w.filename) for w in caught]
        print(json.dumps([name, hidden, found]), flush=True)
        os._exit(0)
"""


def test_each_first_call_without_the_library_warns_once(tmp_path):
    package = Path(seqcells.__file__).parent
    ignored = shutil.ignore_patterns("*.so", "lab", "__pycache__")
    shutil.copytree(package, tmp_path / "seqcells", ignore=ignored)
    result = subprocess.run(
        [sys.executable, "-c", FIRST_CALLS],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    reason, *cases = map(json.loads, result.stdout.splitlines())
    assert reason.startswith("not available: the C++ kernels were not built")
    assert "pip install --force-reinstall --no-deps ." in reason
    assert {name for name, *_ in cases} == {"layer", "recurrent", "cell", "own"}
    assert len(cases) == 8
    for name, hidden, found in cases:
        if hidden:
            assert found == [], name
            continue
        ((message, category, filename),) = found
        assert category == "MissingKernelWarning"
        assert reason.removeprefix("not available: ") in message
        assert "seqcells.MissingKernelWarning" in message
        assert filename == "<string>", "the warning points to the caller"


class Own(seqcells.GatedCell):
    gates = ("carry", "candidate")

    def activate(self, from_input, from_hidden, state):
        carry, candidate = (from_input + from_hidden).chunk(2, dim=-1)
        carry = self.squash(carry)
        return carry * state + (1 - carry) * candidate.tanh(), (carry, candidate)

    def squash(self, values):
        return values.sigmoid()


class Unsupported(Own):
    def squash(self, values):
        return values.softmax(-1)


@pytest.fixture
def no_library(monkeypatch):
    """Hide the library, and forget warnings of earlier tests."""
    monkeypatch.setattr(missing_kernel, "_warned", False)
    monkeypatch.setattr(cpu, "unavailable", lambda: REASON)
    monkeypatch.setattr(cpu, "forward", None)


X = torch.ones(T, B, I)
SERVED = {
    "layer": lambda: seqcells.GRU(I, H)(X),
    "lengths": lambda: Recurrent(seqcells.LSTMCell(I, H))(X, lengths=[1, 5, 2]),
    "cell": lambda: seqcells.LSTMCell(I, H)(X[0]),
    "linear": lambda: Recurrent(seqcells.MinGRUCell(I, H))(X),
    "own": lambda: Recurrent(Own(I, H))(X),
    "stack": lambda: Stack([seqcells.GRUCell(I, H), seqcells.LSTMCell(H, I)])(X),
    "modified": lambda: Recurrent(seqcells.Zoneout(seqcells.GRUCell(I, H), 0.1).eval())(X),
    "bfloat16": lambda: Recurrent(seqcells.GRUCell(I, H).bfloat16())(X.bfloat16()),
}


@pytest.mark.parametrize("kind", SERVED)
def test_a_call_that_a_kernel_would_serve_warns_once(kind, no_library):
    torch.manual_seed(1)
    with pytest.warns(MissingKernelWarning, match=f"cpu kernels: {REASON}") as caught:
        found, _ = SERVED[kind](), SERVED[kind]()
    assert len(caught) == 1
    assert caught[0].filename == __file__
    torch.manual_seed(1)
    with backend("reference"):
        close(leaves(found), leaves(SERVED[kind]()), 1e-6)


@pytest.mark.parametrize("kind", SERVED)
def test_the_reference_backend_and_other_calls_do_not_warn(kind, no_library):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with backend("reference"):
            SERVED[kind]()
        Recurrent(nn.GRUCell(I, H))(X)  # no kernel supports it
        Recurrent(Unsupported(I, H))(X)
        seqcells.RNNCell(I, H)(X[0])  # a step that is faster without a kernel
        torch.vmap(seqcells.GRUCell(I, H))(X)
        seqcells.GRU(I, H, device="meta")(X.to("meta"))
        with pytest.raises(RuntimeError, match=REASON), backend("cpu"):
            seqcells.GRU(I, H)(X)
    assert not missing_kernel._warned


def test_compilation_does_not_warn_but_the_program_does(no_library):
    model = seqcells.GRU(I, H)
    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        program = torch.export.export(model, (X,), strict=False)
    with pytest.warns(MissingKernelWarning, match=REASON) as caught, torch.no_grad():
        found = program.module()(X)
    assert len(caught) == 1
    with backend("reference"):
        close(leaves(found), leaves(model(X)), 1e-6)


@pytest.mark.skipif(cpu.unavailable() is not None, reason="no native code on this machine")
def test_with_the_library_nothing_warns(monkeypatch):
    monkeypatch.setattr(missing_kernel, "_warned", False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for run in SERVED.values():
            run()
    assert not missing_kernel._warned
