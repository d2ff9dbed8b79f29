"""Buffers of saved values: reused, but never while a tensor or a graph reads them."""

import pytest
import torch
from parity import close

import seqcells
from seqcells.kernels import cpu
from seqcells.kernels.cpu import memory
from seqcells.recurrent import Recurrent

pytestmark = pytest.mark.skipif(
    cpu.unavailable() is not None, reason=f"no native code here: {cpu.unavailable()}"
)


@pytest.fixture(autouse=True)
def _every_buffer_is_large(monkeypatch):
    monkeypatch.setattr(memory, "LARGE", 0)
    monkeypatch.setattr(memory, "_free", [])


def take(count, dtype=torch.float32):
    return memory.empty(torch.zeros(1), (count // 4, 4), dtype)


def test_a_buffer_is_reused_once_all_its_tensors_are_freed():
    first, second = take(4096), take(4096)
    address = first.data_ptr()
    assert second.data_ptr() != address
    part = first[3:]
    del first
    assert take(4096).data_ptr() != address
    del part
    third = take(4000)
    assert third.data_ptr() == address
    assert third.shape == (1000, 4)
    assert take(4096, torch.float64).data_ptr() != address


def test_free_buffers_are_bounded(monkeypatch):
    monkeypatch.setattr(memory, "KEPT", 3 * 4096 * 4)
    tensors = [take(4096) for _ in range(5)]
    assert memory._free == []
    tensors.clear()
    assert sum(map(len, memory._free)) == memory.KEPT
    larger = take(4 * 4096)
    assert larger.untyped_storage().resizable()  # allocated by torch


def gradients(recurrent, outputs):
    return torch.autograd.grad(outputs.square().sum(), list(recurrent.parameters()))


@pytest.mark.parametrize("kind", ["LSTMCell", "SLSTMCell"])
def test_graphs_that_exist_at_once_do_not_share_a_buffer(kind):
    recurrent = Recurrent(getattr(seqcells, kind)(3, 16))
    batches = [torch.randn(7, 2, 3) for _ in range(4)]
    expected = [gradients(recurrent, recurrent(inputs)[0]) for inputs in batches]
    assert memory._free
    outputs = [recurrent(inputs)[0] for inputs in batches]
    for number in (2, 0, 3, 1):
        close(list(gradients(recurrent, outputs[number])), list(expected[number]))
        outputs[number] = recurrent(batches[number])[0]  # in the buffer that is free now
    assert len(memory._free) <= 1
    with seqcells.backend("reference"):
        exact = [gradients(recurrent, recurrent(inputs)[0]) for inputs in batches]
    for found, wanted in zip(expected, exact):
        torch.testing.assert_close(found, wanted)
