"""Messages for inputs, states, lengths and resets of a wrong type, shape, dtype or device."""

from itertools import product

import numpy as np
import pytest
import torch
from test_messages import B, H, I, T, X, refuses
from torch import nn
from torch.nn.utils.rnn import pack_sequence

import seqcells
from seqcells import (
    GRUCell,
    LSTMCell,
    MinGRUCell,
    Recurrent,
    RNNCell,
    Stack,
    Zoneout,
    backend,
    trace,
)

STEP, SEQUENCE = r"\(B, 8\), or \(8,\) without a batch", r"\(T, B, 8\), or \(T, 8\) without a batch"
FIRST = r"\(B, T, 8\), or \(T, 8\) without a batch"

# Callables that take an input, with the layout that their messages state.
STEPS = {
    "cell": GRUCell(I, H),
    "rnn": RNNCell(I, H),
    "pair": LSTMCell(I, H),
    "linear": MinGRUCell(I, H),
    "modified": Zoneout(GRUCell(I, H), 0.1),
}
SEQUENCES = {
    "recurrent": (Recurrent(GRUCell(I, H)), SEQUENCE),
    "batch_first": (Recurrent(LSTMCell(I, H), batch_first=True), FIRST),
    "modified": (Recurrent(Zoneout(GRUCell(I, H), 0.1)), SEQUENCE),
    "torch_cell": (Recurrent(nn.GRUCell(I, H)), SEQUENCE),
    "layer": (seqcells.LSTM(I, H), SEQUENCE),
    "layer_batch_first": (seqcells.GRU(I, H, batch_first=True), FIRST),
    "stack": (Stack([GRUCell(I, H), LSTMCell(H, H)]), SEQUENCE),
    "residual": (Stack([GRUCell(I, I)], residual=True), SEQUENCE),
    "trace": (lambda x: trace(Recurrent(GRUCell(I, H)), x), SEQUENCE),
}
WRONG_INPUTS = {
    "int": (lambda x: x.long(), ValueError, r"got torch.int64; embed token ids .*nn.Embedding"),
    "bool": (lambda x: x.bool(), ValueError, r"got torch.bool; .*\.to\(torch.float32\)"),
    "ids": (lambda x: x[..., 0].long(), ValueError, "got torch.int64; embed token ids"),
    "complex": (lambda x: x + 0j, ValueError, "got torch.complex64; .*view_as_real"),
    "float64": (lambda x: x.double(), ValueError, r"got torch.float64; .*\.to\(torch.float32\)"),
    "sparse": (lambda x: x.to_sparse(), ValueError, r"got layout torch.sparse_coo; .*to_dense\(\)"),
    "width": (lambda x: x[..., :7], ValueError, r"expected 8 features, got 7 .*; pass {layout}"),
    "array": (lambda x: x.numpy(), TypeError, r"a tensor, got ndarray; .*from_numpy\(\)"),
    "list": (lambda x: x.tolist(), TypeError, "a tensor, got list; pass {layout}"),
    "scalar": (lambda x: x.sum(), ValueError, r"expected {layout}.*got shape \(\); .*unsqueeze"),
}
FOUR = (lambda x: x[None], ValueError, r"expected {layout}.*got shape \(1, 5, 4, 8\); remove")
ONE = (lambda x: x[0, 0], ValueError, r"expected {layout}.*got shape \(8,\); add the missing")
WRONG_STEPS = {
    "three": (
        lambda x: x[None],
        ValueError,
        r"expected {layout}, got shape \(1, 4, 8\); run the cell .*Recurrent\(cell\)",
    ),
    "csr": (lambda x: x.to_sparse_csr(), ValueError, r"got layout torch.sparse_csr; .*to_dense"),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("wrong", [*WRONG_INPUTS, *WRONG_STEPS])
def test_wrong_inputs_of_a_step_are_explained(wrong):
    change, error, words = {**WRONG_INPUTS, **WRONG_STEPS}[wrong]
    for name, grad in product(("auto", "cpu", "reference"), (True, False)):
        with backend(name), torch.set_grad_enabled(grad):
            for cell in STEPS.values():
                refuses(error, words.replace("{layout}", STEP), cell, change(X[0]))


@pytest.mark.parametrize("wrong", [*WRONG_INPUTS, "four", "one"])
def test_wrong_inputs_of_a_sequence_are_explained(wrong):
    change, error, words = {**WRONG_INPUTS, "four": FOUR, "one": ONE}[wrong]
    for name, (run, layout) in product(("auto", "reference"), SEQUENCES.values()):
        with backend(name):
            refuses(error, words.replace("{layout}", layout), run, change(X))


def test_a_packed_sequence_is_for_layers():
    packed = pack_sequence([X[:, 0]])
    refuses(TypeError, "got PackedSequence; pad it", Recurrent(GRUCell(I, H)), packed)
    refuses(TypeError, "got PackedSequence; pad it", GRUCell(I, H), packed)


def test_autocast_accepts_floating_point_only():
    cell = GRUCell(I, H)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert cell(X[0].bfloat16()).shape == (B, H)
        refuses(ValueError, "got torch.float64; convert", cell, X[0].double())
        refuses(ValueError, "got torch.int64; embed", cell, X[0].long())


@pytest.mark.parametrize("name", ["auto", "reference"])
@pytest.mark.parametrize("grad", [True, False], ids=["train", "infer"])
def test_tensors_on_two_devices_are_refused(grad, name):
    meta, pair = X.to("meta"), (torch.zeros(B, H, device="meta"),) * 2
    with backend(name), torch.set_grad_enabled(grad):
        for cell in STEPS.values():
            words = "input: expected a tensor on cpu.* got meta; pass a tensor with values"
            refuses(ValueError, words, cell, meta[0])
            refuses(ValueError, words, Recurrent(cell), meta)
        for kind in (RNNCell, GRUCell, LSTMCell, MinGRUCell, seqcells.GRU):
            model = kind(I, H, device="meta")
            words = (
                r"input: expected a tensor on meta.* got cpu; load the weights first: .*to_empty"
            )
            refuses(ValueError, words, model, X if kind is seqcells.GRU else X[0])
        words = r"state.hidden: expected a tensor on cpu.* got meta"
        refuses(ValueError, words, STEPS["pair"], X[0], pair)
        refuses(ValueError, words, Recurrent(STEPS["pair"]), X, pair)
        run, resets = Recurrent(GRUCell(I, H)), torch.zeros(T, B, dtype=torch.bool, device="meta")
        refuses(ValueError, "resets: expected a tensor on cpu.* got meta", run, X, resets=resets)
        lengths = torch.ones(B, dtype=torch.int64, device="meta")
        refuses(ValueError, "lengths: .*got a meta tensor", run, X, lengths=lengths)


@pytest.mark.parametrize("name", ["auto", "reference"])
@pytest.mark.parametrize("grad", [True, False], ids=["train", "infer"])
@pytest.mark.parametrize("missing", ["weight_ih", "weight_hh", "bias_hh"])
def test_a_module_that_is_loaded_in_part_is_refused(missing, grad, name):
    """PyTorch multiplies by a weight without values, and returns arbitrary numbers."""
    words = "weight_hh: expected" if missing == "weight_ih" else f"{missing}: expected"
    with backend(name), torch.set_grad_enabled(grad):
        for kind in (RNNCell, GRUCell, LSTMCell):
            cell = kind(I, H)
            setattr(cell, missing, nn.Parameter(getattr(cell, missing).to("meta")))
            refuses(ValueError, words, cell, X[0])
            refuses(ValueError, words, Recurrent(cell), X)


Z = torch.zeros(B, H)
WRONG_STATES = {
    "tensor": (Z, TypeError, "expected a tuple of 2 tensors, got Tensor"),
    "three": ((Z, Z, Z), ValueError, "expected 2 parts, got 3"),
    "none": ((None, None), TypeError, "expected a tensor, got NoneType"),
    "dict": ({"h": Z}, TypeError, "expected a tuple of 2 tensors, got dict"),
    "int": ((Z.long(), Z), ValueError, r"got torch.int64; convert it with .to\(torch.float32\)"),
    "float64": ((Z.double(), Z), ValueError, "got torch.float64; convert it"),
    "complex": ((Z + 0j, Z), ValueError, "got torch.complex64; pass its real part"),
    "sparse": ((Z.to_sparse(), Z), ValueError, r"got layout torch.sparse_coo; .*to_dense\(\)"),
    "rows": ((Z[:3], Z), ValueError, r"expected shape \(4, 16\), got \(3, 16\)"),
    "width": ((Z, Z[:, :3]), ValueError, r"expected shape \(4, 16\), got \(4, 3\)"),
}


@pytest.mark.parametrize("wrong", WRONG_STATES)
def test_wrong_states_are_explained(wrong):
    state, error, words = WRONG_STATES[wrong]
    cell = STEPS["pair"]
    runs = (Recurrent(cell), Recurrent(Zoneout(cell, 0.1)), Recurrent(nn.LSTMCell(I, H)))
    refuses(error, words, cell, X[0], state)
    refuses(error, words, Stack([cell]), X, [state])
    for run in runs:
        refuses(error, words, run, X, state)


def test_a_wrong_state_of_an_unbatched_input_is_told_without_a_batch():
    words = r"expected shape \(16,\), got \(1, 16\)"
    for cell in (GRUCell(I, H), Zoneout(GRUCell(I, H), 0.1)):
        refuses(ValueError, words, cell, X[0, 0], Z[:1])
        refuses(ValueError, words, Recurrent(cell), X[:, 0], Z[:1])
    layer, words = seqcells.GRU(I, H), r"hx: expected shape \(1, 16\), got \(1, 1, 16\)"
    refuses(ValueError, words, layer, X[:, 0], Z[None, :1])
    assert layer(X[:, 0], Z[:1])[0].shape == (T, H)


def test_numbers_of_another_library_are_converted_as_told():
    array = np.ones((T, B, I), dtype=np.float32)
    outputs, _ = Recurrent(GRUCell(I, H))(torch.from_numpy(array))
    assert outputs.shape == (T, B, H)
