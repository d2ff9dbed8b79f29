"""Modules to quantize, and the comparison of a quantized copy with its module."""

import pytest
import torch
from cell_table import Highway, make_random
from parity import leaves

from seqcells import quantize
from seqcells.kernels import cpu

T, B, I, H = 9, 4, 12, 16  # noqa: E741
F32 = torch.float32
DTYPES = (torch.int8, torch.bfloat16)
LIMIT = {torch.int8: 0.03, torch.bfloat16: 0.01}
LENGTHS = [9, 0, 4, 7]
native = pytest.mark.skipif(bool(cpu.unavailable()), reason="no native code on this machine")
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=("int8", "bfloat16"))


def cell(kind, inputs=I, hidden=H):
    """Return a cell with random parameters, or one of a user."""
    made = Highway(inputs, hidden) if kind == "highway" else make_random(kind, inputs, hidden)
    with torch.no_grad():
        for parameter in made.float().parameters():
            parameter.uniform_(-0.3, 0.3)
    return made


def sequence(*shape):
    return torch.randn(*(shape or (T, B, I)))


def resets():
    return torch.arange(T * B).reshape(T, B) % 5 == 3


def error(found, exact):
    """Return the norm of the difference relative to the norm."""
    found, exact = (torch.cat([part.flatten() for part in leaves(each)]) for each in (found, exact))
    return ((found - exact).norm() / exact.norm()).item()


def check(module, dtype, inputs=None, **options):
    """Compare a quantized copy with the module in evaluation mode; return copy and results."""
    inputs = sequence() if inputs is None else inputs
    exact = module.eval()(inputs, **options)
    copied = quantize(module, dtype)
    found = copied(inputs, **options)
    for one, other in zip(leaves(found), leaves(exact), strict=True):
        assert one.shape == other.shape
        assert one.dtype == F32
        assert not one.requires_grad
        assert 0 < error(one, other.detach()) < LIMIT[dtype]
    return copied, found
