"""C code equals the modules that it is written from, with every compiler that is found."""

import ctypes
import re
import shutil
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from c_code import (
    AARCH64,
    COMPILERS,
    CORTEX,
    FLAGS_OF_THE_CPU,
    Net,
    assert_near,
    compile_files,
    self_test,
)
from recurrent_modules import (
    EightParts,
    Highway,
    InputBias,
    OneBias,
    Reduced,
    SeveralAtOnce,
    Staged,
)
from torch import nn

import seqcells
from seqcells import LSTM, LearnedState, LSTMCell, Recurrent, Stack, Zoneout, backend
from seqcells.cells.table import VARIANTS
from seqcells.kernels import cpu
from seqcells.lab.export.c import write_c

pytestmark = pytest.mark.skipif(bool(cpu.unavailable()), reason="no native code on this machine")
I, H, T = 5, 18, 50  # noqa: E741


def learned():
    cell = LearnedState(LSTMCell(I, H))
    nn.init.normal_(cell.start_hidden)
    nn.init.normal_(cell.start_cell)
    return cell


def stack(residual):
    cells = [Highway(I, H), seqcells.LayerNormGRUCell(H, H), LSTMCell(H, H, proj_size=7)]
    return Stack([*cells, seqcells.MGUCell(7, 7)], residual=residual)


MODULES = {
    name: lambda c=cell, o=options: c(I, H, **o) for name, (cell, options) in VARIANTS.items()
}
MODULES |= {
    "own": lambda: Highway(I, H),
    "eight parts": lambda: EightParts(I, H),
    "reductions": lambda: Reduced(I, H),
    "stages": lambda: Staged(I, H),
    "several at once": lambda: SeveralAtOnce(I, H),
    "rhn, two layers": lambda: seqcells.RHNCell(I, H, depth=2),
    "zoneout lem": lambda: Zoneout(seqcells.LEMCell(I, H), (0.1, 0.2)),
    "bias_hh alone": lambda: OneBias(I, H),
    "bias_ih alone": lambda: InputBias(I, H),
    "no bias": lambda: seqcells.GRUCell(I, H, bias=False),
    "layers": lambda: LSTM(I, H, 2, proj_size=7),
    "wide": lambda: seqcells.GRU(I, 150),
    "recurrent": lambda: Recurrent(seqcells.RNNCell(I, H), batch_first=True),
    "zoneout": lambda: Zoneout(LSTMCell(I, H, proj_size=3), 0.1),
    "zoneout slstm": lambda: Zoneout(seqcells.SLSTMCell(I, H), (0.1, 0.2, 0.3, 0.0)),
    "drop connect": lambda: seqcells.DropConnect(seqcells.GRUCell(I, H), 0.5),
    "learned state": learned,
    "stack": lambda: stack(False),
    "residual stack": lambda: stack(True),
}
QUICK = ("lstm", "own", "eight parts", "stages")


def made(name):
    torch.manual_seed(0)
    return MODULES[name]().eval()


def run(module, inputs):
    """Return the outputs `(T, O)` of the readable loop."""
    if not isinstance(module, (Recurrent, Stack, nn.RNNBase)):
        module = Recurrent(module)
    sequence = inputs.unsqueeze(0 if module.batch_first else 1)
    with torch.no_grad(), backend("reference"):
        return module(sequence)[0].reshape(len(inputs), -1)


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MODULES],
)
def test_c_equals_the_readable_loop(name, tmp_path):
    module, inputs = made(name), torch.randn(T, I)
    write_c(module, tmp_path, "net")
    single = run(module, inputs)
    exact = run(module.double(), inputs.double())
    net = Net(tmp_path)
    assert_near(net.run(inputs), exact, single)
    net.library.net_reset(net.state)
    assert_near(torch.stack([net.step(input) for input in inputs]), exact, single)


def test_heads(tmp_path):
    """The matrix of a layer with heads is written with zeros between the heads."""
    torch.manual_seed(0)
    cells = [seqcells.SLSTMCell(I, 6, heads=3), seqcells.GRUCell(6, 4, reset_after=False, heads=2)]
    module, inputs = Stack(cells).eval(), torch.randn(T, I)
    write_c(module, tmp_path, "net")
    single = run(module, inputs)
    exact = run(module.double(), inputs.double())
    assert_near(Net(tmp_path).run(inputs), exact, single)


@pytest.mark.slow
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", MODULES)
def test_every_compiler(name, compiler, tmp_path):
    module = made(name)
    head = nn.Linear(run(module, torch.zeros(1, I)).shape[1], 3)
    write_c(module, tmp_path, "net", head=head, embed_weights=compiler != "sanitizers")
    compile_files(tmp_path, COMPILERS[compiler], "-lm", "-onet_test")
    self_test(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_arm(name, tmp_path):
    write_c(made(name), tmp_path, "net", block=16)
    compile_files(tmp_path, CORTEX, test=False)
    compile_files(tmp_path, AARCH64, "-lm", "-onet_test")
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("needs qemu-aarch64")
    self_test(tmp_path, "qemu-aarch64")


@pytest.mark.slow
@pytest.mark.skipif("avx2" not in FLAGS_OF_THE_CPU, reason="needs AVX2")
@pytest.mark.parametrize("target", ["haswell", "native"])
def test_vectors_are_no_slower_than_loops(target, tmp_path):
    """A vector wider than the registers is stored in memory at every column."""
    write_c(seqcells.GRU(8, 128).eval(), tmp_path, "net")
    inputs, outputs = torch.randn(200, 8), torch.empty(200, 128)
    state, calls = ctypes.create_string_buffer(1 << 10), []
    for name, options in {
        "vectors": [],
        "loops": ["-U__SSE__", "-U__AVX__", "-U__AVX512F__"],
    }.items():
        compiler = ["gcc", "-std=c99", "-O3", f"-march={target}", "-shared", "-fPIC", *options]
        compile_files(tmp_path, compiler, "-lm", f"-o{name}.so", test=False)
        library = ctypes.CDLL(str(tmp_path / f"{name}.so"))
        library.net_reset(state)
        source, destination = (ctypes.c_void_p(part.data_ptr()) for part in (inputs, outputs))
        calls.append(partial(library.net_run, state, source, ctypes.c_long(200), destination))
    best = [min(column) for column in zip(*([timed(call) for call in calls] for _ in range(100)))]
    assert best[0] < 1.5 * best[1]


def timed(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def test_head_and_weights_in_a_file(tmp_path):
    module, head, inputs = LSTM(I, H).eval(), nn.Linear(H, 3), torch.randn(T, I)
    paths = write_c(module, tmp_path, "net", head=head, embed_weights=False)
    assert [path.name for path in paths] == ["net.h", "net.c", "net_test.c", "net.bin"]
    with torch.no_grad():
        single = head(run(module, inputs))
        exact = head.double()(run(module.double(), inputs.double()))
    net = Net(tmp_path, embedded=False)
    assert_near(net.run(inputs), exact, single)

    def opened(data):
        return net.library.net_open(net.state, data, ctypes.c_size_t(len(data)))

    damaged = bytearray(net.weights)
    damaged[-1] ^= 1
    for data in (net.weights[:-4], b"x" + net.weights[1:], bytes(damaged), b""):
        assert opened(data) != 0
    assert opened(net.weights) == 0


def test_the_program_of_the_guide(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "streams.md").read_text()
    program = re.search(r"```c\n(.*?)```", text, re.DOTALL)[1]
    module, head, inputs = seqcells.GRU(1, 16).eval(), nn.Linear(16, 1), torch.randn(9, 1)
    write_c(module, tmp_path, "detector", head=head)
    (tmp_path / "main.c").write_text(program)
    compile_files(
        tmp_path, ["gcc", "-std=c99", "-O1"], "main.c", "-lm", "-omain", name="detector", test=False
    )
    samples = " ".join(map(str, inputs.flatten().tolist()))
    ended = subprocess.run(["./main"], cwd=tmp_path, input=samples, capture_output=True, text=True)
    found = torch.tensor([float(line) for line in ended.stdout.splitlines()])
    with torch.no_grad():
        torch.testing.assert_close(found, head(run(module, inputs)).flatten(), rtol=1e-4, atol=1e-5)


def test_the_self_test_fails_for_other_weights(tmp_path):
    write_c(seqcells.GRUCell(I, H), tmp_path, "net")
    text = (tmp_path / "net.c").read_text()
    wrong = text.replace("update_gate = net_sigmoid(", "update_gate = net_tanh(")
    assert wrong != text
    (tmp_path / "net.c").write_text(wrong)
    compile_files(tmp_path, ["gcc", "-std=c99"], "-lm", "-onet_test")
    ended = subprocess.run(["./net_test"], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "failed" in ended.stdout.lower()


def test_the_code_has_no_allocation_and_no_variables(tmp_path):
    write_c(stack(True).eval(), tmp_path, "net")
    for line in (tmp_path / "net.c").read_text().splitlines():
        assert not re.search(r"\b(malloc|calloc|realloc|free)\b", line)
        if line.startswith("static") and not line.endswith("{"):
            assert line.startswith("static const"), line


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "9lives"}, ValueError, "name: expected a C identifier that starts with a letter"),
        ({"name": "a-b"}, ValueError, "name: expected a C identifier"),
        ({"head": nn.ReLU()}, TypeError, "head: expected torch.nn.Linear or None, got ReLU"),
        ({"head": nn.Linear(4, 2)}, ValueError, "head: expected 18 input features.* got 4"),
        ({"block": 12}, ValueError, "block: expected a positive multiple of 8, got 12"),
        ({"module": nn.GRU(I, H)}, TypeError, "got GRU; use a cell, Recurrent"),
        ({"module": LSTM(I, H, bidirectional=True)}, ValueError, "bidirectional=True"),
        ({"module": Zoneout(LSTMCell(I, H), 0.1)}, ValueError, r"call .eval\(\)"),
    ],
)
def test_invalid_arguments(arguments, error, message, tmp_path):
    arguments = {"module": seqcells.GRUCell(I, H), **arguments}
    with pytest.raises(error, match=message):
        write_c(arguments.pop("module"), tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


class Scaled(seqcells.modifiers.Modifier):
    """A constant factor of noise in evaluation mode, which a Stepper supports."""

    def __init__(self, cell, field):
        super().__init__(cell)
        self.field = field

    def draw(self, state, steps):
        return seqcells.Noise(**{self.field: torch.full_like(state, 0.5)})


@pytest.mark.parametrize("field", ["hidden", "candidate"])
def test_factors_of_noise_are_refused(field, tmp_path):
    module = Scaled(seqcells.GRUCell(I, H), field).eval()
    with pytest.raises(ValueError, match="expected no factors of noise in evaluation mode"):
        write_c(module, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_weights_must_be_finite(tmp_path):
    cell = seqcells.GRUCell(I, H)
    with torch.no_grad():
        cell.weight_hh[3, 2] = torch.inf
    with pytest.raises(ValueError, match="finite"):
        write_c(cell, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_extreme_inputs(tmp_path):
    """Saturated gates, and infinite and undefined inputs, as in PyTorch."""
    cell = LSTMCell(I, H)
    write_c(cell, tmp_path, "net")
    net = Net(tmp_path)
    for value in (1e4, -1e4, 1e30, torch.inf, -torch.inf, torch.nan):
        inputs = torch.full((3, I), value)
        net.library.net_reset(net.state)
        torch.testing.assert_close(
            net.run(inputs), run(cell, inputs), equal_nan=True, rtol=1e-5, atol=1e-6
        )
