import pytest
import torch
from hypothesis import settings

import seqcells
from seqcells.kernels import cpu

# The machine may be busy, and a test that fails today has to fail tomorrow.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(params=["reference", "cpu"])
def each_backend(request):
    """The test once on each backend: by name, so that a call it cannot run is no silent pass."""
    if request.param == "cpu" and cpu.unavailable():
        pytest.skip("no native code on this machine")
    with seqcells.backend(request.param):
        yield
