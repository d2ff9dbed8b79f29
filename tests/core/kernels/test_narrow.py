"""Products in bfloat16 and int8 on the CPU, against the readable loop with rounded operands."""

import ctypes
import gc

import pytest
import torch
import torch.nn.functional as F
from cell_table import CELLS, Highway, make_random
from parity import leaves
from torch.overrides import TorchFunctionMode

import seqcells
from seqcells import Recurrent, Zoneout
from seqcells.kernels import cpu
from seqcells.kernels.cpu import packed

pytestmark = pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable()))

F32 = torch.float32
# Bits of the CPU's optional instructions, and values of `Path`, in native/problem.hpp.
NONE, BFLOAT16_DOT, INT8_DOT = 0, 1, 2
BY_SIZE, WORDS, FLOATS = 0, 1, 3
READS = {WORDS: 4, FLOATS: 5, "int8": 6}  # digits of `seqcells_last_reads`
SIZES = [(1, 1, 3, 5), (5, 3, 17, 9), (3, 14, 33, 40)]  # T, B, I, H


class Native:
    """The native library: hides instructions, and selects and reports how weights are read."""

    def __init__(self):
        library = cpu.library.library()
        library.seqcells_set_path.argtypes = [ctypes.c_int64]
        library.seqcells_use_features.argtypes = [ctypes.c_int64]
        for name in ("seqcells_use_features", "seqcells_last_reads"):
            getattr(library, name).restype = ctypes.c_int64
        self.set_path = library.seqcells_set_path
        self.use, self.last_reads = library.seqcells_use_features, library.seqcells_last_reads

    def digits(self):
        """How the last call read the weights of inputs and state."""
        return {int(digit) for digit in f"{self.last_reads():05}"[:2]} - {0}


@pytest.fixture
def native(monkeypatch):
    library = Native()
    features = library.use(-1)
    yield library
    library.set_path(BY_SIZE)
    library.use(features)


def every_feature():
    library = cpu.library.library()
    if isinstance(library, str):
        return NONE
    before = library.seqcells_use_features(BFLOAT16_DOT | INT8_DOT)
    return library.seqcells_use_features(before)


FORCED = [(number, NONE) for number in range(len(cpu.library.instruction_sets()))]
FORCED += [(0, bit) for bit in (BFLOAT16_DOT, INT8_DOT) if every_feature() & bit]
IDS = [f"{cpu.library.instruction_sets()[number]}-{bit}" for number, bit in FORCED]


@pytest.fixture(params=FORCED, ids=IDS)
def instructions(request, native, monkeypatch):
    number, features = request.param
    monkeypatch.setattr(cpu.library, "variant", number)
    native.use(features)
    assert native.use(-1) == features


class RoundedLinear(torch.autograd.Function):
    """A product of operands rounded to bfloat16, and its gradient."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return rounded(x) @ rounded(weight).T

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        rows, grads = rounded(x).flatten(0, -2), rounded(grad).flatten(0, -2)
        return rounded(grad) @ rounded(weight), grads.T @ rows


def rounded(x):
    return x.bfloat16().to(x.dtype)


def to_int8_rows(x):
    """Return rows as whole numbers up to 127, and their scales."""
    scale = x.abs().amax(dim=-1, keepdim=True) / 127
    return (x / scale.clamp_min(1e-30)).round(), scale


class Rounding(TorchFunctionMode):
    """Round the operands of every linear function."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def __torch_function__(self, function, types, arguments=(), options=None):
        if function is not F.linear:
            return function(*arguments, **(options or {}))
        x, weight, *bias = arguments
        if self.kind == "bfloat16":
            product = RoundedLinear.apply(x, weight)
        else:
            (left, left_scale), (right, right_scale) = to_int8_rows(x), to_int8_rows(weight)
            product = left.double() @ right.double().T * (left_scale * right_scale.T)
            product = product.to(x.dtype)
        return product if not bias or bias[0] is None else product + bias[0]


def results(run, inputs, state=None, **options):
    """Outputs, final state and the gradients of inputs and parameters."""
    inputs = inputs.detach().requires_grad_()
    outputs, final = run(inputs, state, **options)
    found = {"outputs": outputs} | {f"final {n}": part for n, part in enumerate(leaves(final))}
    generator = torch.Generator().manual_seed(0)
    upstream = torch.randn(outputs.shape, generator=generator)
    parameters = dict(run.named_parameters())
    grads = torch.autograd.grad(outputs, [inputs, *parameters.values()], upstream)
    found |= dict(zip(("grad of inputs", *(f"grad of {name}" for name in parameters)), grads))
    return {name: value.detach().float() for name, value in found.items()}


def check_bfloat16(run, inputs, **options):
    """Compare with the loop with rounded operands, and with exact products."""
    with seqcells.backend("reference"):
        exact = results(run, inputs, **options)
        with Rounding("bfloat16"):
            expected = results(run, inputs, **options)
    with torch.autocast("cpu", torch.bfloat16), seqcells.backend("cpu"):
        found = results(run, inputs, **options)
    for name, value in found.items():
        truth, effect = expected[name], (expected[name] - exact[name]).norm()
        # A sum that falls between two bfloat16 numbers may be rounded the other way.
        allowed = 0.2 * effect + 1e-6 * truth.norm() + 1e-7
        assert (value - truth).norm() <= allowed, name
    return exact, found


@pytest.mark.parametrize("path", [WORDS, FLOATS])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_bfloat16_on_every_instruction_set(kind, path, instructions, native):
    native.set_path(path)
    for T, B, I, H in SIZES:  # noqa: E741
        torch.manual_seed(T)
        run = Recurrent(make_random(kind, I, H, dtype=F32))
        exact, found = check_bfloat16(run, torch.randn(T, B, I))
        assert native.digits() == {READS[path]}
        assert (found["outputs"] - exact["outputs"]).abs().max() > 1e-5


CELL_KINDS = [kind if kind in ("rnn_relu", "layer_norm_lstm", "gru_reset_before", "lstm_proj")
              else pytest.param(kind, marks=pytest.mark.slow) for kind in CELLS]  # fmt: skip


@pytest.mark.parametrize("kind", CELL_KINDS)
def test_bfloat16_in_every_cell(kind, native):
    torch.manual_seed(0)
    cell = make_random(kind, 20, 24, dtype=F32)
    lengths, resets = [6, 0, 3, 5, 6], torch.rand(6, 5) < 0.2
    for reverse in (False, True):
        run = Recurrent(cell, reverse=reverse)
        check_bfloat16(run, torch.randn(6, 5, 20), lengths=lengths, resets=resets)


@pytest.mark.parametrize("compiles", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_bfloat16_in_a_cell_of_a_user(compiles):
    class Own(Highway, compile=compiles):
        pass

    torch.manual_seed(0)
    check_bfloat16(Recurrent(Own(20, 24, dtype=F32)), torch.randn(6, 5, 20))
    zoned = Recurrent(Zoneout(Own(20, 24, dtype=F32), 0.3)).eval()
    check_bfloat16(zoned, torch.randn(6, 5, 20))


def test_a_bfloat16_module_equals_autocast_up_to_the_rounding_of_its_state():
    torch.manual_seed(0)
    run = Recurrent(make_random("gru", 20, 24, dtype=F32))
    with torch.no_grad():
        for parameter in run.parameters():
            parameter.copy_(rounded(parameter))
    inputs = rounded(torch.randn(30, 4, 20))
    with torch.autocast("cpu", torch.bfloat16):
        expected = results(run, inputs)
    found = results(run.bfloat16(), inputs.bfloat16())
    for name, value in found.items():
        truth = expected[name]
        assert (value - truth).norm() <= 2**-7 * truth.norm(), name


@pytest.mark.parametrize("threads", [1, 2])
def test_bfloat16_over_many_rows_and_threads(threads, native):
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        run = Recurrent(seqcells.LSTMCell(40, 72))
        check_bfloat16(run, torch.randn(9, 33, 40))
        check_bfloat16(run, torch.randn(150, 1, 40))
    finally:
        torch.set_num_threads(before)


def test_float64_is_not_rounded_under_autocast():
    run = Recurrent(make_random("gru", 4, 5))
    inputs = torch.randn(3, 2, 4, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(run(inputs)[0], run(inputs)[0])
        found = run(inputs)[0]
    assert torch.equal(found, run(inputs)[0])


@pytest.mark.parametrize("kind", ["lstm", "gru_reset_before", "lstm_proj"])
def test_int8_on_every_instruction_set(kind, instructions, native):
    for T, B, I, H in SIZES:  # noqa: E741
        torch.manual_seed(T)
        run = Recurrent(make_random(kind, I, H, dtype=F32))
        inputs = torch.randn(T, B, I)
        inputs[1:, 0] = 0
        with torch.no_grad(), seqcells.backend("reference"):
            exact = run(inputs)[0]
            with Rounding("int8"):
                expected = run(inputs)[0]
        with torch.no_grad(), seqcells.backend("cpu"):
            found = seqcells.quantize(run)(inputs)[0]
        assert native.digits() == {READS["int8"]}
        effect = (expected - exact).norm()
        assert effect > 1e-4
        assert (found - expected).norm() <= 0.2 * effect


def test_int8_sums_do_not_saturate(instructions):
    cell = seqcells.RNNCell(1024, 1, nonlinearity="relu")
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.fill_(0)
        cell.weight_ih.fill_(1)
    inputs = torch.ones(1, 2, 1024)
    inputs[:, 1] = -1
    found = Recurrent(seqcells.quantize(cell))(inputs)[0].flatten()
    torch.testing.assert_close(found, torch.tensor([1024.0, 0.0]))
    with torch.no_grad():
        cell.weight_ih.fill_(-1)
    found = Recurrent(seqcells.quantize(cell))(inputs)[0].flatten()
    torch.testing.assert_close(found, torch.tensor([0.0, 1024.0]))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.int8, torch.bfloat16])
def test_values_that_are_not_finite_stay_in_their_row(dtype, value, instructions):
    torch.manual_seed(0)
    run = seqcells.quantize(seqcells.GRU(7, 9), dtype)
    inputs = torch.randn(5, 3, 7)
    with torch.no_grad():
        expected = run(inputs)[0]
        inputs[2, 1, 3] = value
        found = run(inputs)[0]
    assert torch.equal(found[:, [0, 2]], expected[:, [0, 2]])
    assert torch.equal(found[:2, 1], expected[:2, 1])
    if dtype is torch.int8 or value != value:
        assert found[2:, 1].isnan().all()


def test_the_description_names_the_instructions_in_use(native):
    native.use(NONE)
    assert "dot products" not in seqcells.backends()["cpu"]
    if every_feature() & INT8_DOT:
        native.use(INT8_DOT)
        assert "int8 dot products" in seqcells.backends()["cpu"]


def change_through_data(weight, values):
    weight.data.copy_(values)  # no version counter tells


def change_in_place(weight, values):
    weight.copy_(values)


@pytest.mark.parametrize("change", [change_in_place, change_through_data])
@pytest.mark.parametrize("lengths", [None, [3, 2]])
def test_packed_int8_weights_follow_the_weights(change, lengths):
    torch.manual_seed(0)
    first, second = (seqcells.quantize(seqcells.LSTM(5, 20)) for _ in range(2))
    inputs = torch.randn(3, 2, 5)
    expected = second(inputs, lengths=lengths)[0]
    before = first(inputs, lengths=lengths)[0]
    assert torch.equal(first(inputs, lengths=lengths)[0], before)
    for name, value in second.state_dict().items():
        change(getattr(first, name), value)
    assert torch.equal(first(inputs, lengths=lengths)[0], expected)


def test_packed_int8_weights_live_as_long_as_the_weights():
    module = seqcells.quantize(seqcells.GRU(5, 20))
    module(torch.randn(3, 2, 5))
    kept = [key for key in packed.PANELS if id(module.weight_ih_l0) in key]
    assert len(kept) == 1
    del module
    gc.collect()
    assert kept[0] not in packed.PANELS


def test_plain_quantized_calls_take_the_fast_path(monkeypatch):
    module, inputs = seqcells.quantize(seqcells.LSTM(5, 20)), torch.randn(3, 2, 5)
    expected = module(inputs)[0]
    monkeypatch.setattr("seqcells.recurrence.compute.choose", None)
    assert torch.equal(module(inputs)[0], expected)
