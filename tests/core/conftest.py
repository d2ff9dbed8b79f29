import pytest
import torch
from hypothesis import settings

# The machine may be busy, and a test that fails today has to fail tomorrow.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
