"""cuDNN's backend equals the readable loop, through PyTorch's layers on the CPU."""

import pytest
import torch
from cell_table import make_cell, make_layers
from parity import F64, call_options, close, leaves, random, upstream
from torch.nn.utils.rnn import pack_padded_sequence

from seqcells import Noise, Recurrent, backend
from seqcells.kernels import cudnn
from seqcells.recurrence import choice

T, B, I, H = 4, 5, 3, 6  # noqa: E741
LENGTHS = [3, 0, 4, 1, 2]
RESETS = call_options(T, LENGTHS)["resets"]["resets"]


def on_the_cpu(monkeypatch):
    monkeypatch.setattr(cudnn, "unavailable", lambda: None)
    monkeypatch.setattr(choice, "refusal", lambda name, call: choice.BACKENDS[name].refuses(call))


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("kind", ["rnn_tanh", "rnn_relu", "gru", "lstm", "lstm_proj"])
def test_layers_through_cudnn_equal_the_loop(kind, packed, monkeypatch):
    on_the_cpu(monkeypatch)
    ours, _ = make_layers(kind, I, H, num_layers=2, bidirectional=not packed)
    inputs = random(T, B, I)
    if packed:
        inputs = pack_padded_sequence(inputs, torch.tensor([4, 3, 3, 2, 1]))
    ran, run = [], cudnn.compute
    monkeypatch.setattr(cudnn, "compute", lambda *call: ran.append(1) or run(*call))
    found = []
    for name in ("cudnn", "reference"):
        ours.zero_grad()
        with backend(name):
            outputs, final = ours(inputs)
            results = [outputs.data if packed else outputs, *leaves(final)]
            given = results, list(ours.parameters()), upstream(results)
            grads, again = (torch.autograd.grad(*given, retain_graph=True) for _ in range(2))
        close(list(again), list(grads))
        with torch.no_grad(), backend(name):
            close(ours(inputs)[1], final)
        found.append([*results, *grads])
    close(*found)
    assert len(ran) == (4 if packed else 8)


def test_gradients_through_cudnn_can_be_differentiated(monkeypatch):
    on_the_cpu(monkeypatch)
    recurrent, inputs = Recurrent(make_cell("lstm", I, H)), random(T, B, I).requires_grad_()
    with backend("cudnn"):
        assert torch.autograd.gradgradcheck(lambda x: recurrent(x)[0], inputs)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lengths": LENGTHS}, "no lengths"),
        ({"resets": RESETS}, "no resets"),
        ({"all_states": True}, "no all states"),
        ({"noise": Noise(torch.ones(B, H, dtype=F64))}, "no noise"),
    ],
    ids=["lengths", "resets", "states", "noise"],
)
def test_what_cudnn_cannot_do_raises(options, words, monkeypatch):
    on_the_cpu(monkeypatch)
    recurrent = Recurrent(make_cell("lstm", I, H))
    with backend("cudnn"), pytest.raises(RuntimeError, match=f"cuDNN takes {words}"):
        recurrent(random(T, B, I), **options)
