"""The fuzzer over some cases, and the differences that it found once."""

import pytest
import torch
from parity import F64, close, random

import seqcells
from seqcells import Recurrent, backend
from seqcells.kernels import cpu
from tests import fuzz

pytestmark = pytest.mark.skipif(
    cpu.unavailable() is not None, reason=f"no native code here: {cpu.unavailable()}"
)


@pytest.mark.parametrize("cases", [30, pytest.param(2000, marks=pytest.mark.slow)])
def test_random_cells_equal_the_loop(cases):
    assert fuzz.fuzz(0, seed=0, progress=False, least=cases) == (cases, [])


def test_its_cells_are_recorded():
    """Otherwise the loop would be compared with itself."""
    cases = [fuzz.Case(seed) for seed in range(60)]
    own = [case for case in cases if isinstance(case.own, fuzz.Random)]
    assert len(own) > 30
    for case in own:
        with backend("cpu"):
            seqcells.Recurrent(case.own)(case.inputs)


def test_it_finds_a_kernel_that_differs(monkeypatch):
    forward = cpu.forward

    def wrong(call, **options):
        outputs, *rest = forward(call, **options)
        return [outputs + 1e-3, *rest]

    monkeypatch.setattr(cpu, "forward", wrong)
    _, findings = fuzz.fuzz(0, seed=0, progress=False, least=20)
    assert findings
    seed = int(findings[0].split(":")[0].removeprefix("seed "))
    assert fuzz.fuzz(0, seed, progress=False) == (1, [findings[0]])


def cell_of(function):
    class Own(seqcells.GatedCell):
        gates = ("candidate",)

        def activate(self, from_input, from_hidden, state):
            new = torch.tanh(function(from_input, from_hidden, state))
            return new, (new,)

    return Own(2, 5, dtype=F64)


# Operations that differed from the loop once.
FOUND = {
    "a product and itself": lambda x, h, s: x + x,
    "a hidden product and itself": lambda x, h, s: h + h + x,
    "maximum of equal values": lambda x, h, s: x + torch.maximum(s, -s),
    "minimum of equal values": lambda x, h, s: x + torch.minimum(s, 0 * h),
    "clamp at its bound": lambda x, h, s: x + h + s.clamp(0.0, 1.0),
    "clamp from below at its bound": lambda x, h, s: x + h + s.clamp(min=0.0),
    "hardtanh at its bound": lambda x, h, s: x + h + torch.nn.functional.relu6(s),
    "elu of a large value": lambda x, h, s: torch.nn.functional.elu(1000 * x) + h,
}


@pytest.mark.parametrize("what", FOUND)
def test_former_findings_equal_the_loop(what):
    recurrent, inputs = Recurrent(cell_of(FOUND[what])), random(4, 3, 2)
    found = []
    for name in ("cpu", "reference"):
        recurrent.zero_grad()
        leaf = inputs.clone().requires_grad_()
        start = torch.zeros(3, 5, dtype=F64, requires_grad=True)
        with backend(name):
            outputs, _ = recurrent(leaf, start)
        outputs.sum().backward()
        sources = [leaf, start, *recurrent.parameters()]
        zero = [torch.zeros_like(source) for source in sources]
        grads = [
            none if source.grad is None else source.grad for source, none in zip(sources, zero)
        ]
        found.append([outputs, *grads])
    close(*found)
