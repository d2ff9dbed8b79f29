"""Forked processes, and counts of operations."""

import os
import subprocess
import sys

import pytest
import torch
from parity import random
from torch.utils.flop_counter import FlopCounterMode

import seqcells
from seqcells.kernels import cpu

pytestmark = pytest.mark.skipif(
    cpu.unavailable() is not None, reason=f"no native code here: {cpu.unavailable()}"
)

# Make the gradient of the outputs before the fork: PyTorch's own operations would hang after it.
FORK = """
import os, signal, torch, seqcells
torch.set_num_threads(2)
layer, inputs = seqcells.LSTM(16, 64, dtype=torch.float64), torch.randn(20, 32, 16).double()
upstream = torch.randn(20, 32, 64).double()
def run():
    outputs = layer(inputs)[0]
    grads = torch.autograd.grad(outputs, list(layer.parameters()), upstream)
    return [number for part in (outputs, *grads) for number in part.flatten().tolist()]
expected = run()
child = os.fork()
if child == 0:
    signal.alarm(60)
    far = max(abs(one - other) for one, other in zip(run(), expected, strict=True))
    os._exit(0 if far < 1e-9 else 3)
raise SystemExit(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_runs_with_one_thread():
    """OpenMP's threads do not survive a fork: with two, the child would never end."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK]
    assert subprocess.run(command, timeout=120).returncode == 0


@pytest.mark.parametrize("kind", ["lstm", "own"])
def test_operations_are_counted(kind):
    class Own(seqcells.GatedCell):
        gates = ("carry", "candidate")

        @staticmethod
        def activate(from_input, from_hidden, state):
            carry, candidate = (from_input + from_hidden).sigmoid().chunk(2, dim=-1)
            return carry * state + candidate, (carry, candidate)

    cell = seqcells.LSTMCell(10, 20) if kind == "lstm" else Own(10, 20)
    recurrent, inputs = seqcells.Recurrent(cell), random(7, 3, 10).float().requires_grad_()
    forward = 2 * 7 * 3 * len(cell.gates) * 20 * (10 + 20)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        recurrent(inputs)
    assert counter.get_total_flops() == forward
    with FlopCounterMode(display=False) as counter:
        recurrent(inputs)[0].sum().backward()
    assert counter.get_total_flops() == 3 * forward
