"""Threads of the tests of adapters."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Run in one thread: on a busy machine, waiting at every short operator dominates."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
