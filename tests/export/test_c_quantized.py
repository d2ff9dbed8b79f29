"""C code of quantized modules equals the C++ kernels, which round and sum in the same way.

Rounding amplifies tiny differences: a number near the middle between two results can give the
other one, in C with fused multiply-add and without. Such a step differs by as much as the
quantization itself. So the state is copied from the stepper before each step, and few steps may
differ.
"""

import ctypes
import shutil

import pytest
import torch
from c_code import AARCH64, COMPILERS, CORTEX, Net, compile_files, error_of, self_test
from test_c_export import MODULES, made
from torch import nn

import seqcells
from seqcells import LSTM, LSTMCell, Recurrent, Stack, Stepper, quantize
from seqcells.kernels import cpu
from seqcells.lab.export.c import write_c
from seqcells.lab.export.c.recording import record
from seqcells.lab.export.onnx import layers_to_onnx
from seqcells.lab.export.parts import Parts
from seqcells.lab.export.stateful import to_stateful_onnx
from seqcells.streams.single_steps import single_steps

pytestmark = pytest.mark.skipif(bool(cpu.unavailable()), reason="no native code on this machine")
I, H, T = 5, 18, 50  # noqa: E741
DTYPES = {"int8": torch.int8, "bfloat16": torch.bfloat16}
QUICK = ("lstm int8", "own int8", "lstm bfloat16", "rhn int8", "stages bfloat16")
CASES = [
    case if case in QUICK else pytest.param(case, marks=pytest.mark.slow)
    for case in (f"{name} {dtype}" for name in MODULES for dtype in DTYPES)
]
# With all widths of blocks: less than a vector, several tiles, and a rest.
VARIED = ("lstm", "wide", "layers", "residual stack", "gru_reset_before", "stages")
SSE2, AVX2 = ["-O2", "-Dnet_INTRINSICS"], ["-O2", "-mavx2", "-Dnet_INTRINSICS"]
WITH_INTRINSICS = {
    "gcc, native": ["gcc", "-std=c99", "-O3", "-march=native", "-Dnet_INTRINSICS"],
    "gcc, AVX2": ["gcc", "-std=c99", "-march=haswell", *AVX2],
    "gcc, SSE2": ["gcc", "-std=c99", *SSE2],
    "g++": ["g++", "-x", "c++", "-march=native", *SSE2],
    "clang, native": ["clang", "-std=c99", "-O3", "-march=native", "-Dnet_INTRINSICS"],
    "clang, SSE2": ["clang", "-std=c99", *SSE2],
    "plain loops": ["gcc", "-std=c99", "-O2", "-U__SSE2__", "-fsanitize=undefined"],
}
DOT_PRODUCTS = [*AARCH64, "-march=armv8.2-a+dotprod", "-Dnet_INTRINSICS"]


def quantized(case):
    name, _, dtype = case.rpartition(" ")
    module = made(name)
    return module, quantize(module, DTYPES[dtype])


def set_state(net, steps, state):
    """Write the state of a stepper to the state in C, which has the same numbers in this order."""
    parts = [part.flatten() for layer in steps.split(state) for part in layer]
    numbers = torch.cat(parts)
    ctypes.memmove(net.state, numbers.data_ptr(), 4 * numbers.numel())


def errors_of_steps(net, module, inputs):
    """Return the error of each step from the state of a stepper, relative to its outputs."""
    stepper, steps, errors = Stepper(module), single_steps(module, 1), []
    for input in inputs:
        set_state(net, steps, stepper.state)
        found, expected = net.step(input), stepper(input)
        errors.append((found - expected).abs().max())
    return torch.stack(errors) / expected.abs().max()


def outputs_of(module, inputs):
    stepper = Stepper(module)
    return torch.stack([stepper(input) for input in inputs])


@pytest.mark.parametrize("case", CASES)
def test_c_equals_the_kernels(case, tmp_path):
    module, small = quantized(case)
    write_c(small, tmp_path, "net")
    inputs = torch.randn(T, I)
    errors = errors_of_steps(Net(tmp_path), small, inputs)
    of_quantization = error_of(outputs_of(small, inputs), outputs_of(module, inputs))
    assert of_quantization > 100 * 2e-6
    assert (errors < 2e-6).float().mean() >= 0.9
    assert errors.max() < of_quantization


@pytest.mark.parametrize("case", CASES)
def test_recorded_outputs_are_those_of_the_kernels(case):
    """The readable loop in float64, with rounded vectors; no rounding is close."""
    module, small = quantized(case)
    inputs, outputs = record(small, Parts(None, small, None, None), I)
    assert error_of(outputs_of(small, inputs), outputs) < 2e-6
    assert error_of(outputs_of(module, inputs), outputs) > 2e-4


HEADS = {
    "slstm": lambda: seqcells.SLSTMCell(I, 32, heads=2),
    "multiplicative_lstm": lambda: seqcells.MultiplicativeLSTMCell(I, 96, heads=3),
    "wide": lambda: seqcells.GRUCell(I, 160, heads=2),
}
HEADS_CASES = ["slstm", "multiplicative_lstm", pytest.param("wide", marks=pytest.mark.slow)]


def quantized_heads(name, dtype):
    torch.manual_seed(0)
    module = HEADS[name]().eval()
    return module, quantize(module, DTYPES[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block", [64, pytest.param(16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", HEADS_CASES)
def test_c_of_heads_equals_the_kernels(name, block, dtype, tmp_path):
    """The numbers of each head are rounded to int8 with their own scale."""
    module, small = quantized_heads(name, dtype)
    write_c(small, tmp_path, "net", block=block)
    inputs = torch.randn(T, I)
    errors = errors_of_steps(Net(tmp_path), small, inputs)
    of_quantization = error_of(outputs_of(small, inputs), outputs_of(module, inputs))
    assert (errors < 2e-6).float().mean() >= 0.9
    assert errors.max() < of_quantization


@pytest.mark.slow
@pytest.mark.parametrize("compiler", COMPILERS | WITH_INTRINSICS)
@pytest.mark.parametrize("name", HEADS)
def test_every_compiler_of_heads(name, compiler, tmp_path):
    write_c(quantized_heads(name, "int8")[1], tmp_path, "net")
    compile_files(tmp_path, (COMPILERS | WITH_INTRINSICS)[compiler], "-lm", "-onet_test")
    self_test(tmp_path)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", HEADS_CASES)
def test_recorded_outputs_of_heads_are_those_of_the_kernels(name, dtype):
    module, small = quantized_heads(name, dtype)
    inputs, outputs = record(small, Parts(None, small, None, None), I)
    assert error_of(outputs_of(small, inputs), outputs) < 2e-6
    assert error_of(outputs_of(module, inputs), outputs) > 2e-4


@pytest.mark.slow
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(
    "case", [f"{name} int8" for name in MODULES] + [f"{name} bfloat16" for name in VARIED]
)
def test_every_compiler(case, compiler, tmp_path):
    small = quantized(case)[1]
    head = nn.Linear(single_steps(small, 1).calls[-1].state[0].shape[1], 3)
    write_c(small, tmp_path, "net", head=head, embed_weights=compiler != "sanitizers")
    compile_files(tmp_path, COMPILERS[compiler], "-lm", "-onet_test")
    self_test(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("compiler", WITH_INTRINSICS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", VARIED)
def test_intrinsics(name, dtype, compiler, tmp_path):
    write_c(quantized(f"{name} {dtype}")[1], tmp_path, "net")
    compile_files(tmp_path, WITH_INTRINSICS[compiler], "-lm", "-onet_test")
    self_test(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MODULES)
def test_arm(name, dtype, tmp_path):
    write_c(quantized(f"{name} {dtype}")[1], tmp_path, "net", block=16)
    compile_files(tmp_path, CORTEX, test=False)
    for compiler in (AARCH64, DOT_PRODUCTS):
        compile_files(tmp_path, compiler, "-lm", "-onet_test")
        if shutil.which("qemu-aarch64") is None:
            pytest.skip("needs qemu-aarch64")
        self_test(tmp_path, "qemu-aarch64", "-cpu", "max")


def test_numbers_that_are_not_finite_or_tiny(tmp_path):
    """A row with a NaN or an infinity gives NaN; a row below 1e-30 counts as zero."""
    small = quantize(LSTMCell(I, H).eval())
    write_c(small, tmp_path, "net")
    net, stepper = Net(tmp_path), Stepper(small)
    for value in (torch.inf, -torch.inf, torch.nan, 3e38, 1e-31, 1e-29, -0.0):
        inputs = torch.linspace(-1, 1, I) / 4
        inputs[2] = value
        if abs(value) < 1:
            inputs[:] = value
        net.reset()
        stepper.reset()
        found, expected = net.step(inputs), stepper(inputs)
        assert found.isnan().all() == (not abs(value) < torch.inf)
        torch.testing.assert_close(found, expected, equal_nan=True, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_sums_of_the_most_columns_do_not_overflow(tmp_path):
    cell = seqcells.RNNCell(65536, H).eval()
    with torch.no_grad():
        cell.weight_ih.fill_(1e-5)
        cell.bias_ih.fill_(-0.5)
        cell.bias_hh.fill_(0)
    small = quantize(cell)
    write_c(small, tmp_path, "net", embed_weights=False)
    for number, options in enumerate(([], ["-march=native", "-Dnet_INTRINSICS"])):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path, folder, ignore=shutil.ignore_patterns("0"))
        found = Net(folder, embedded=False, extra=options).step(torch.ones(65536))
        torch.testing.assert_close(found, torch.full((H,), 0.15536).tanh(), rtol=1e-4, atol=0)


def test_int8_weights_in_a_file(tmp_path):
    small, inputs = quantize(LSTM(I, 64).eval()), torch.randn(T, I)
    write_c(small, tmp_path, "net", embed_weights=False)
    assert "int8_t layer0_recurrent[16384];" in (tmp_path / "net.c").read_text()
    assert "uint32_t" not in (tmp_path / "net.c").read_text().partition("} net_weights;")[0]
    net = Net(tmp_path, embedded=False)
    assert len(net.weights) < 1.5 * 64 * 4 * (64 + 8)
    first = outputs_of(small, inputs)[0]
    torch.testing.assert_close(net.step(inputs[0]), first, rtol=1e-6, atol=1e-7)
    damaged = bytearray(net.weights)
    damaged[-1000] ^= 1
    assert net.library.net_open(net.state, bytes(damaged), ctypes.c_size_t(len(damaged))) == 6
    short = ctypes.c_size_t(len(net.weights) - 64)
    assert net.library.net_open(net.state, net.weights, short) == 3


def test_the_self_test_fails_for_the_module_before_quantization(tmp_path):
    """It sees the error of the quantization, so it sees other errors too."""
    cell, head = LSTMCell(I, H).eval(), nn.Linear(H, 3)
    write_c(cell, tmp_path, "net", head=head)
    before = (tmp_path / "net.c").read_text()
    write_c(quantize(cell), tmp_path, "net", head=head)
    compile_files(tmp_path, ["gcc", "-std=c99"], "-lm", "-onet_test")
    self_test(tmp_path)
    (tmp_path / "net.c").write_text(before)
    compile_files(tmp_path, ["gcc", "-std=c99"], "-lm", "-onet_test")
    with pytest.raises(AssertionError, match="failed"):
        self_test(tmp_path)


def test_some_quantized_recurrences_are_refused(tmp_path):
    mixed = Stack([quantize(seqcells.GRUCell(I, H)), seqcells.GRUCell(H, H)]).eval()
    with pytest.raises(ValueError, match=r"expected all recurrences.* call quantize\(\) on"):
        write_c(mixed, tmp_path, "net")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["layers", "cell", "recurrent", "stack"])
def test_onnx_refuses_quantized_modules(kind, dtype):
    cell = seqcells.GRUCell(I, H)
    module = {
        "layers": LSTM(I, H, 2),
        "cell": cell,
        "recurrent": Recurrent(cell),
        "stack": Stack([cell, seqcells.LightLSTMCell(H, H)]),
    }[kind]
    small = quantize(module, DTYPES[dtype])
    message = rf"quantized to {dtype}; export the module before quantize\(\), or use write_c"
    with pytest.raises(ValueError, match=message):
        to_stateful_onnx(small)
    if kind == "layers":
        with pytest.raises(ValueError, match=message):
            layers_to_onnx(small)
