"""Test the arithmetic and the calls of modules from `seqcells.quantize`."""

import numpy as np
import pytest
import torch
from cell_table import CELLS, LAYERS, MODIFIED, MODIFY, Highway
from parity import close, leaves
from quantized import (
    LENGTHS,
    LIMIT,
    B,
    H,
    I,
    T,
    cell,
    check,
    each_dtype,
    error,
    native,
    resets,
    sequence,
)
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import seqcells
from seqcells import Recurrent, Stack, Stepper, quantize
from seqcells.kernels import cpu

# Arithmetic.


def narrow(rows):
    """Return the int8 numbers of rows, and the scale of each row."""
    scales = np.abs(rows).max(axis=-1, keepdims=True) / 127
    return np.rint(rows / np.where(scales == 0, 1, scales)), scales


def int8_product(values, weight, bias):
    """Return `W v + b` for rows of values, rounded as `quantize` says."""
    (numbers, scales), (weights, weight_scales) = narrow(values), narrow(weight)
    return numbers @ weights.T * scales * weight_scales.T + bias


def sigma(z):
    return 1 / (1 + np.exp(-z))


def lstm_step(x, h, state):
    i, f, g, o = np.split(x + h, 4, axis=-1)
    state = sigma(f) * state + sigma(i) * np.tanh(g)
    return sigma(o) * np.tanh(state), state


def gru_step(x, h, state):
    (xr, xz, xn), (hr, hz, hn) = np.split(x, 3, axis=-1), np.split(h, 3, axis=-1)
    z = sigma(xz + hz)
    state = (1 - z) * np.tanh(xn + sigma(xr + hr) * hn) + z * state
    return state, state


@native
@pytest.mark.parametrize(("kind", "step"), [("lstm", lstm_step), ("gru", gru_step)])
def test_int8_layers_equal_numpy(kind, step):
    layer, inputs = LAYERS[kind][0](I, H), sequence()
    w_ih, w_hh, b_ih, b_hh = (part.detach().double().numpy() for part in layer.parameters())
    hidden = state = np.zeros((B, H))
    expected = []
    for x in inputs.double().numpy():
        h = int8_product(hidden, w_hh, b_hh)
        hidden, state = step(int8_product(x, w_ih, b_ih), h, state)
        expected.append(hidden)
    expected = torch.from_numpy(np.stack(expected))
    outputs, _ = quantize(layer)(inputs)
    assert error(outputs.double(), expected) < 1e-6
    assert error(layer(inputs)[0].detach().double(), expected) > 1e-3


@each_dtype
def test_reference_runs_with_widened_weights(dtype):
    layers, inputs = seqcells.LSTM(I, H, 2, proj_size=5), sequence()
    copied = quantize(layers, dtype)
    with torch.no_grad():
        for name, parameter in layers.named_parameters():
            if "weight" in name and dtype is torch.int8:
                numbers, scales = narrow(parameter.numpy())
                parameter.copy_(torch.from_numpy(numbers * scales))
            elif "weight" in name:
                parameter.copy_(parameter.bfloat16())
        with seqcells.backend("reference"):
            close(copied(inputs), layers(inputs), 1e-6)


# Calls.


@each_dtype
@pytest.mark.parametrize("kind", [*CELLS, "highway"])
def test_cells(kind, dtype):
    check(Recurrent(cell(kind)), dtype)


@native
@pytest.mark.slow
def test_a_compiled_cell(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQCELLS_CACHE", str(tmp_path))
    cpu._unsupported.cache_clear()  # another test may have compiled the same equations
    cpu.problem.compiled_cell.cache_clear()

    class Compiled(Highway, compile=True):
        pass

    interpreted, compiled, inputs = cell("highway"), Compiled(I, H), sequence()
    compiled.load_state_dict(interpreted.state_dict())
    for dtype in LIMIT:
        _, results = check(Recurrent(compiled), dtype, inputs)
        assert any(tmp_path.iterdir())  # the compiled kernel
        close(results, quantize(Recurrent(interpreted), dtype)(inputs), 1e-6)


@each_dtype
def test_a_row_that_is_not_finite_is_nan_alone(dtype):
    copied, inputs = quantize(seqcells.GRU(I, H), dtype), sequence()
    expected, _ = copied(inputs)
    inputs[3, 1] = torch.nan
    outputs, _ = copied(inputs)
    assert outputs[3:, 1].isnan().all()
    outputs[3:, 1] = expected[3:, 1]
    close(outputs, expected, 0)


@each_dtype
@pytest.mark.parametrize("reverse", [False, True], ids=("forward", "reverse"))
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[] if kind in ("lstm", "min_gru") else [pytest.mark.slow])
        for kind in [*CELLS, "highway"]
    ],
)
def test_lengths_and_resets(kind, reverse, dtype):
    recurrent, inputs = Recurrent(cell(kind), reverse=reverse), sequence()
    options = {"lengths": LENGTHS, "resets": resets()}
    state = quantize(recurrent, dtype)(inputs)[1]
    copied, (outputs, final_state) = check(recurrent, dtype, inputs, initial_state=state, **options)
    for row, length in enumerate(LENGTHS):
        assert not outputs[length:, row].any()
        alone = copied(
            inputs[:length, row : row + 1],
            form_row(state, row),
            resets=options["resets"][:length, row : row + 1],
        )
        close(alone[0], outputs[:length, row : row + 1], 1e-6)
        close(leaves(alone[1]), leaves(form_row(final_state, row)), 1e-6)


def form_row(state, row):
    """Return one row of a state."""
    if isinstance(state, torch.Tensor):
        return state[row : row + 1]
    parts = [form_row(part, row) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


@each_dtype
@pytest.mark.parametrize("kind", LAYERS)
def test_layers(kind, dtype):
    ours, _, options = LAYERS[kind]
    check(ours(I, H, **options), dtype)
    inputs = sequence(B, T, I)
    options = {**options, "num_layers": 3, "bidirectional": True, "batch_first": True}
    layers = ours(I, H, dropout=0.5, bias=False, **options)
    copied, (outputs, state) = check(layers, dtype, inputs, lengths=LENGTHS, resets=resets().T)
    outputs, state = copied(inputs[[0, 2, 3]], lengths=[9, 4, 7])
    packed = pack_padded_sequence(inputs[[0, 2, 3]], [9, 4, 7], True, enforce_sorted=False)
    from_packed, packed_state = copied(packed)
    close(pad_packed_sequence(from_packed, batch_first=True)[0], outputs, 1e-6)
    close(packed_state, state, 1e-6)


@each_dtype
def test_stack(dtype):
    pair = cell("gru"), cell("light_lstm")
    stack = Stack([pair, cell("highway", 2 * H, 2 * H), cell("lstm_proj", 2 * H)], residual=True)
    check(stack, dtype, lengths=LENGTHS, resets=resets())


@each_dtype
@pytest.mark.parametrize(
    ("modifier", "kind"),
    [
        pytest.param(*pair, marks=[] if pair[1] == "lstm" else [pytest.mark.slow])
        for pair in MODIFIED
    ],
)
def test_modifiers_in_evaluation_mode(modifier, kind, dtype):
    if (modifier, kind) == ("zoneout", "slstm"):
        pytest.skip("the mean of two stabilizers is no scale of the cell state: errors grow")
    recurrent = Recurrent(MODIFY[modifier](cell(kind)).float())
    copied, _ = check(recurrent, dtype, resets=resets())
    assert not copied.training


@native
@each_dtype
@pytest.mark.parametrize("rows", [1, B])
@pytest.mark.parametrize(
    "make",
    [
        lambda: cell("highway"),
        lambda: Recurrent(seqcells.Zoneout(cell("lstm"), 0.2)),
        lambda: seqcells.LSTM(I, H, 2, proj_size=5, bias=False),
        lambda: Stack([cell("gru", I, I), cell("min_gru"), cell("indrnn_tanh", H)], residual=True),
    ],
    ids=("cell", "recurrent", "layers", "stack"),
)
def test_stepper(make, rows, dtype):
    module, inputs = make(), sequence(T, rows, I)
    copied = quantize(module, dtype)
    stepper = Stepper(copied, rows)
    outputs, state = (Recurrent(copied) if isinstance(module, seqcells.GatedCell) else copied)(
        inputs
    )
    close(torch.stack([stepper(input) for input in inputs]), outputs, 1e-6)
    close(stepper.state, state, 1e-6)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*is deprecated")
@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["eager", "inductor"])
def test_compiled(compiler):
    copied, inputs = quantize(Stack([cell("gru"), cell("highway", H)])), sequence()
    compiled = torch.compile(copied, fullgraph=True, backend=compiler)
    close(compiled(inputs), copied(inputs), 1e-6)


@pytest.mark.slow
@each_dtype
def test_exported(dtype):
    copied, inputs = quantize(Stack([cell("gru"), cell("highway", H)]), dtype), sequence()
    exported = torch.export.export(copied, (inputs,))
    close(exported.module()(inputs), copied(inputs), 1e-6)
