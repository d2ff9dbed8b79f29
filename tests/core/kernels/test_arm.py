"""The kernel for ARM, compiled by a cross compiler and run in an emulator.

Every test runs the public functions here, and their native calls in the emulator.
"""

import re
import shutil
import subprocess
from contextlib import contextmanager

import emulated
import pytest
import test_cpu
import test_cpu_interpreter
import test_narrow
import torch
import torch.nn.functional as F
from cell_table import CELLS, Highway, make_random
from parity import F64, leaves, relative_error
from test_narrow import BY_SIZE, FLOATS, INT8_DOT, NONE, WORDS, Native

import seqcells
from seqcells.equations.recording import program as program_of
from seqcells.kernels import cpu
from seqcells.kernels.cpu import compiler
from seqcells.kernels.cpu.source import Functor, source_of

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
PACKED, STREAMED, DIRECT = 1, 2, 3  # values of `Path` in native/problem.hpp, and digits of reads

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),  # compiles every cell
    pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable())),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    for tool in (COMPILER, EMULATOR):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    return emulated.build(tmp_path_factory.mktemp("arm"), [COMPILER], "aarch64")


@pytest.fixture
def arm(program, monkeypatch):
    """A context in which native calls run in the emulator."""
    library = emulated.Library(EMULATOR, program)

    @contextmanager
    def emulator():
        with monkeypatch.context() as patch:
            emulated.use(library, patch)
            yield

    yield emulator
    library.close()
    assert library.calls


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    Native().set_path(BY_SIZE)


@pytest.mark.parametrize(
    ("processor", "words"), [("cortex-a53", ""), ("cortex-a76", "int8 dot products, ")]
)
def test_the_description_names_the_instructions(program, processor, words):
    library = emulated.Library(EMULATOR, "-cpu", processor, program)
    with pytest.MonkeyPatch.context() as patch:
        emulated.use(library, patch)
        torch.set_num_threads(2)
        assert seqcells.backends()["cpu"].endswith(f"NEON, {words}2 threads")
        assert cpu.library.instruction_sets() == ["NEON"]
    library.close()


@pytest.mark.parametrize("group", range(4))
def test_random_shapes_equal_the_readable_loop(arm, group):
    with arm():
        for seed in range(30 * group, 30 * group + 30):
            test_cpu.check(seed)


@pytest.mark.parametrize("options", [{"few": True}, {"single": True}])
def test_threads_that_meet_within_a_step(arm, options):
    with arm():
        for seed in range(3):
            test_cpu.check(seed, **options)


def compute(run, inputs, path):
    """Return outputs, final state and gradients, and how the forward pass read the weights."""
    native = Native()
    native.set_path(path)
    with seqcells.backend("cpu"), torch.no_grad():
        run(inputs)
    reads = native.digits()
    inputs = inputs.detach().requires_grad_()
    run.zero_grad()
    with seqcells.backend("cpu"):
        outputs, final = run(inputs, lengths=[5, 0, 3, 5, 4, 5, 5, 1, 2])
    results = [outputs, *leaves(final)]
    generator = torch.Generator().manual_seed(0)
    upstream = [torch.randn(part.shape, generator=generator).to(part) for part in results]
    torch.autograd.backward(results, upstream)
    grads = [part.grad.clone() for part in (inputs, *run.parameters()) if part.grad is not None]
    return [part.detach() for part in results] + grads, reads


@pytest.mark.parametrize("kind", CELLS)
def test_every_cell_equals_the_kernel_for_this_processor(arm, kind):
    for dtype, sizes in ((torch.float32, (33, 40)), (torch.float32, (16, 64)), (F64, (19, 21))):
        run = seqcells.Recurrent(make_random(kind, *sizes, dtype=dtype))
        inputs = torch.randn(5, 9, sizes[0], dtype=dtype)
        exact, _ = compute(run.to(F64), inputs.double(), BY_SIZE)
        run.to(dtype)
        for path in (PACKED, STREAMED, DIRECT):
            expected, reads = compute(run, inputs, path)
            with arm():
                found, found_reads = compute(run, inputs, path)
            assert reads == found_reads
            if min(sizes) >= 16 and kind != "lstm_proj":  # DIRECT needs rows of a whole vector
                assert reads == {path}
            for one, other, truth in zip(found, expected, exact, strict=True):
                noise = relative_error(other, truth) + torch.finfo(dtype).eps
                allowed = 12 * noise if dtype is torch.float32 else 1e-12
                assert relative_error(one, other.double()) <= allowed


@pytest.mark.parametrize("path", [WORDS, FLOATS])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_bfloat16(arm, kind, path):
    with arm():
        test_narrow.test_bfloat16_on_every_instruction_set(kind, path, None, Native())


FEATURES = pytest.mark.parametrize("features", [NONE, INT8_DOT])


def use_features(features):
    native = Native()
    native.use(features)
    assert native.use(-1) == features
    return native


@FEATURES
@pytest.mark.parametrize("kind", ["lstm", "gru_reset_before", "lstm_proj"])
def test_int8(arm, kind, features):
    with arm():
        test_narrow.test_int8_on_every_instruction_set(kind, None, use_features(features))


@FEATURES
def test_int8_sums_do_not_saturate(arm, features):
    with arm():
        use_features(features)
        test_narrow.test_int8_sums_do_not_saturate(None)


def test_dot_products_of_int8_are_exact(arm):
    """Sums of integers have no order: the instruction changes no bit."""
    for rows in range(1, 12):
        run = seqcells.quantize(seqcells.LSTM(5 * rows, 7 + 16 * rows))
        inputs, results = torch.randn(3, rows, 5 * rows), []
        with arm(), torch.no_grad():
            for features in (NONE, INT8_DOT):
                use_features(features)
                results.append(run(inputs)[0])
        assert torch.equal(*results)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.int8, torch.bfloat16])
def test_values_that_are_not_finite_stay_in_their_row(arm, dtype, value):
    with arm():
        test_narrow.test_values_that_are_not_finite_stay_in_their_row(dtype, value, None)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bfloat16])
@pytest.mark.parametrize("kind", CELLS)
def test_narrow_products_in_every_cell(arm, kind, dtype):
    """A single step: later ones may round another number where two are equally near."""
    run = seqcells.quantize(
        seqcells.Recurrent(make_random(kind, 33, 40, dtype=torch.float32)), dtype
    )
    inputs = torch.randn(1, 9, 33)
    with torch.no_grad():
        expected = run(inputs)[0]
        with arm():
            found = run(inputs)[0]
    assert relative_error(found, expected.double()) <= 1e-5


@pytest.mark.parametrize("kind", ["lstm", "layer_norm_gru", "min_lstm"])
def test_the_interpreter(arm, kind):
    with arm():
        check = test_cpu_interpreter.test_results_and_gradients_equal_the_compiled_kernel
        check(kind, "resets", 21)


FUNCTIONS = {
    "exp": torch.exp,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "sqrt": lambda x: x.abs().sqrt(),
    "rsqrt": lambda x: x.abs().rsqrt(),
}


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_elementary_functions_have_the_accuracy_of_other_processors(arm, name, dtype):
    function = FUNCTIONS[name]

    class Elementwise(seqcells.GatedCell):
        gates = ("value",)

        def activate(self, from_input, from_hidden, state):
            return function(from_input) + 0 * from_hidden, (from_input,)

    cell = Elementwise(64, 64, bias=False, dtype=dtype)
    with torch.no_grad():
        cell.weight_ih.copy_(torch.eye(64))
        cell.weight_hh.zero_()
    inputs = torch.cat([torch.randn(1, 100, 64) * scale for scale in (0.01, 1.0, 30.0)], 1).to(
        dtype
    )
    run = seqcells.Recurrent(cell)
    with torch.no_grad(), seqcells.backend("cpu"):
        expected = run(inputs)[0]
        with arm():
            found = run(inputs)[0]
    exact = function(inputs.double())
    near = exact.abs() > 1e-30  # float32 has fewer digits below
    errors = [
        ((part.double() - exact).abs() / exact.abs())[near].max() for part in (found, expected)
    ]
    assert errors[0] <= errors[1] + torch.finfo(dtype).eps / 4


def test_a_cell_of_a_user_compiles(program, monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", COMPILER)
    monkeypatch.setenv("SEQCELLS_CACHE", str(tmp_path))
    header = source_of({"own": Functor("Custom", program_of(Highway(4, 5)))})
    library = compiler.compile_library(header, "NEON")
    command = ["aarch64-linux-gnu-nm", "--dynamic", library]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert {"seqcells_custom_float", "seqcells_custom_double"} <= set(names)


def test_products_use_four_registers_per_vector(program):
    """The inner loop of a tile of five rows has twenty multiply-adds and no stack access."""
    text = subprocess.run(
        ["aarch64-linux-gnu-objdump", "-dC", "--no-show-raw-insn", program.with_name("neon.o")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (function,) = re.findall(r"<void seqcells_neon::tile<float, 5, 1>.*>:\n((?:.+\n)+)", text)
    fused = [number for number, line in enumerate(function.split("\n")) if "fmla" in line]
    assert len(fused) == 20
    loop = "\n".join(function.split("\n")[fused[0] : fused[-1]])
    assert "sp" not in loop
    assert set(re.findall(r"fmla\s+v\d+\.(\w+)", loop)) == {"4s"}


def test_no_function_of_the_c_library_computes_elements(program):
    command = ["aarch64-linux-gnu-nm", "--undefined-only", program.with_name("neon.o")]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert not set(names.split()) & {"exp", "expf", "tanh", "tanhf", "sqrt", "sqrtf", "log1pf"}
