"""Test copies, files and errors of `seqcells.quantize`."""

import copy
import pickle
import re

import pytest
import torch
from parity import same
from quantized import LIMIT, B, H, I, T, cell, check, each_dtype, error, sequence
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import seqcells
from seqcells import Recurrent, Stack, quantize


class Model(nn.Module):
    """Word vectors, layers, a cell and a head."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, I)
        self.layers = seqcells.GRU(I, H, 2)
        self.recurrent = Recurrent(seqcells.LearnedState(cell("peephole_lstm", H)))
        self.head = nn.Linear(H, 1)

    def forward(self, tokens):
        return self.head(self.recurrent(self.layers(self.words(tokens))[0])[0])


@each_dtype
def test_copies_and_files(dtype, tmp_path):
    model, tokens = Model(), torch.randint(20, (T, B))
    copied = quantize(model, dtype)
    expected = copied(tokens)
    assert not expected.requires_grad
    same(copy.deepcopy(copied)(tokens), expected)
    same(pickle.loads(pickle.dumps(copied))(tokens), expected)
    torch.save(copied.state_dict(), tmp_path / "state.pt")
    loaded = quantize(Model(), dtype)
    assert error(loaded(tokens), expected) > 0.1
    loaded.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    same(loaded(tokens), expected)


@each_dtype
@pytest.mark.parametrize("other", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", [lambda: seqcells.LSTM(I, H, 2), lambda: Recurrent(cell("gru"))])
def test_a_converted_copy_computes_in_the_other_dtype(make, other, dtype):
    copied, inputs = quantize(make(), dtype), sequence()
    with seqcells.backend("reference"):
        expected, _ = copied(inputs)
    outputs, _ = copied.to(other)(inputs.to(other))
    assert outputs.dtype == other
    assert error(outputs.to(expected.dtype), expected) < (1e-6 if other == torch.float64 else 0.02)
    with pytest.raises(ValueError, match=f"expected {other}, the dtype of the weights, got torch"):
        copied(inputs)


@each_dtype
@pytest.mark.parametrize("bias", [True, False])
def test_weight_noise_raises(bias, dtype):
    dropped = seqcells.DropConnect(seqcells.GRUCell(I, H, bias=bias), 0.5)
    copied = quantize(Recurrent(dropped), dtype).train()
    with pytest.raises(ValueError, match=r"noise.weight_hh: expected none .* got a factor; call"):
        copied(sequence())


def test_int8_and_float_state_dicts_do_not_mix():
    layers = seqcells.GRU(I, H)
    for one, other in ((layers, quantize(layers)), (quantize(layers), layers)):
        with pytest.raises(RuntimeError, match="size mismatch for weight_ih_l0"):
            one.load_state_dict(other.state_dict())


def test_memory():
    layers = seqcells.LSTM(64, 128)
    weights, rows, biases = 512 * (64 + 128), 512, 2 * 512
    sizes = {None: 4 * weights, torch.bfloat16: 2 * weights, torch.int8: weights + 2 * 4 * rows}
    for dtype, size in sizes.items():
        state = (layers if dtype is None else quantize(layers, dtype)).state_dict()
        assert sum(part.nbytes for part in state.values()) == size + 4 * biases


@each_dtype
def test_the_original_is_unchanged(dtype):
    model, tokens = Model().train(), torch.randint(20, (T, B))
    parametrizations.weight_norm(model.layers, "weight_hh_l0")
    before, expected = copy.deepcopy(model.state_dict()), model(tokens)
    copied = quantize(model, dtype)
    assert model.training
    assert not copied.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.state_dict().keys() == before.keys()
    for name, part in model.state_dict().items():
        same(part, before[name])
    same(model(tokens), expected)
    model(tokens).sum().backward()
    assert 0 < error(copied(tokens), expected.detach()) < 2 * LIMIT[dtype]


def scatter(module):
    """Change the parameters of a module."""
    with torch.no_grad():
        for parameter in module.parameters(recurse=False):
            parameter.uniform_(0.1, 0.5)


class Twice(nn.Module):
    def forward(self, value):
        return 2 * value


@each_dtype
def test_parametrized_weights_are_evaluated(dtype):
    layers, inside = seqcells.LSTM(I, H), cell("gru")
    for module, suffix in ((layers, "_l0"), (inside, "")):
        parametrizations.weight_norm(module, f"weight_ih{suffix}")
        parametrize.register_parametrization(module, f"bias_hh{suffix}", Twice())
    for module in (layers, Recurrent(inside)):
        copied, _ = check(module, dtype)
        assert not any("parametrizations" in name for name in copied.state_dict())
        loaded, inputs = quantize(copy.deepcopy(module).apply(scatter), dtype), sequence()
        assert error(loaded(inputs)[0], copied(inputs)[0]) > 0.1
        loaded.load_state_dict(copied.state_dict())
        same(loaded(inputs), copied(inputs))


@each_dtype
def test_tied_cells_and_weights_stay_tied(dtype):
    first, other = cell("gru", H, H), cell("gru", H, H)
    other.weight_hh = first.weight_hh
    copied, _ = check(Stack([first, first, other]), dtype, sequence(T, B, H))
    one, two, three = (layer.cell for layer in copied.layers)
    assert one is two
    assert one is not three
    assert one.weight_hh is three.weight_hh


# Errors.


class OwnForward(seqcells.GRUCell):
    def forward(self, input, hx=None, noise=None):
        return super().forward(input, hx, noise)


class Spectrum(seqcells.GatedCell):
    """A cell without a kernel."""

    gates = ("candidate",)

    def activate(self, from_input, from_hidden, state):
        new = torch.fft.fft(from_input + from_hidden).real
        return new, (new,)


def infinite():
    layers = seqcells.LSTM(2, 3)
    nn.init.constant_(layers.weight_hh_l0, torch.inf)
    return layers


def hooked():
    layers = seqcells.LSTM(2, 3)
    weight = layers.weight_hh_l0
    del layers._parameters["weight_hh_l0"]
    layers.weight_hh_l0 = weight.detach()  # as torch.nn.utils.weight_norm does
    return layers


@pytest.mark.parametrize(
    ("make", "dtype", "kind", "message"),
    [
        (
            lambda: seqcells.LSTM(2, 3),
            torch.float16,
            ValueError,
            "dtype: expected torch.int8 or torch.bfloat16, got torch.float16",
        ),
        (
            lambda: seqcells.LSTM(2, 3),
            "int8",
            ValueError,
            "dtype: expected torch.int8 or torch.bfloat16, got int8",
        ),
        (lambda: 3, torch.int8, TypeError, "module: expected a module, got int"),
        (
            lambda: nn.Sequential(nn.LSTM(2, 3)),
            torch.int8,
            TypeError,
            "module: expected recurrences of seqcells, got Sequential without one; use layers or "
            "gated cells of seqcells",
        ),
        (
            lambda: Recurrent(nn.GRUCell(2, 3)),
            torch.int8,
            TypeError,
            "module: expected recurrences of seqcells, got Recurrent without one",
        ),
        (
            lambda: Recurrent(OwnForward(2, 3)),
            torch.int8,
            ValueError,
            "module: expected cells with a kernel, got OwnForward: it has a forward of its own; "
            "write its equations as a GatedCell",
        ),
        (
            lambda: Stack([seqcells.GRUCell(2, 3), Spectrum(3, 3)]),
            torch.int8,
            ValueError,
            "module: expected cells with a kernel, got Spectrum: torch.fft is not",
        ),
        (
            lambda: seqcells.LSTM(2, 3, dtype=torch.float64),
            torch.int8,
            ValueError,
            "LSTM.weight_ih_l0: expected float32 on the CPU, got torch.float64 on cpu; convert the "
            "module with .float().cpu()",
        ),
        (
            lambda: seqcells.GRUCell(2, 3, device="meta"),
            torch.bfloat16,
            ValueError,
            "GRUCell.weight_ih: expected float32 on the CPU, got torch.float32 on meta",
        ),
        (
            lambda: seqcells.RNN(65537, 1),
            torch.int8,
            ValueError,
            "RNN.weight_ih_l0: expected at most 65536 columns, got 65537; sums of more products",
        ),
        (
            infinite,
            torch.int8,
            ValueError,
            "LSTM.weight_hh_l0: expected finite weights, got NaN or infinity",
        ),
        (
            lambda: quantize(seqcells.GRU(2, 3)),
            torch.bfloat16,
            ValueError,
            "GRU.weight_ih_l0: expected a parameter, got quantized weights; quantize the original",
        ),
        (
            hooked,
            torch.int8,
            ValueError,
            "LSTM.weight_hh_l0: expected a parameter, got a tensor that a hook computes; use "
            "torch.nn.utils.parametrizations",
        ),
    ],
)
def test_errors(make, dtype, kind, message):
    with pytest.raises(kind, match=f"^{re.escape(message)}"):
        quantize(make(), dtype)


@each_dtype
def test_gradients_raise(dtype):
    inputs = sequence()
    for module in (seqcells.GRU(I, H), Recurrent(cell("gru"))):
        copied = quantize(module, dtype)
        outputs, state = copied(inputs)
        trained = inputs.clone().requires_grad_(), state.clone().requires_grad_()
        for name in ("auto", "reference"):
            with seqcells.backend(name):
                for arguments in ((trained[0],), (inputs, trained[1])):
                    with pytest.raises(ValueError, match=r"expected no gradient.*torch\.no_grad"):
                        copied(*arguments)
        with torch.no_grad():
            same(copied(trained[0])[0], outputs)
