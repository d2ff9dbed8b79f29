"""How Triton's kernels are planned, launched and compiled for a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cell_table import CELLS, make_cell
from parity import F64, backends_agree, random
from test_triton_own_cells import Centred, Staged

import seqcells
from seqcells import Recurrent, backend
from seqcells.equations.catalogue import kernel_of
from seqcells.equations.recording import record
from seqcells.kernels import triton
from seqcells.kernels.call import Call

pytestmark = pytest.mark.skipif(
    triton.unavailable() is not None or not triton.interprets(),
    reason=triton.unavailable() or "a GPU is here (tests/core/test_cuda.py)",
)

T, B, I, H = 4, 5, 3, 6  # noqa: E741
LENGTHS = [3, 0, 4, 1, 2]


def test_weights_that_do_not_fit_are_read_at_each_step(monkeypatch, launched):
    from triton.runtime.errors import OutOfResources

    from seqcells.kernels.triton import launch, problem

    run = launch.launch
    monkeypatch.setattr(problem, "OVERSIZED_PLANS", known := set())
    monkeypatch.setattr(launch, "OVERSIZED_PLANS", known)

    def full(kernel, *arguments, **constants):
        if constants["PRODUCT"] != "memory":
            raise OutOfResources(300_000, 232_448, "shared memory")
        run(kernel, *arguments, **constants)

    monkeypatch.setattr(launch, "launch", full)
    backends_agree(Recurrent(make_cell("lstm", I, H)), random(T, B, I), "triton")
    assert {made for _, made in launched} == {"memory"}
    assert {plan.product for _, plan in known} == {"resident", "split", "streamed"}


def call_of(kind, dtype, steps, batch, hidden_size):
    """Return a call of these sizes; it is never computed."""
    kernel = make_cell(kind, I, 6).built_in_kernel()
    found = kernel_of(kernel)

    def some(*shape):
        return torch.empty(shape, dtype=dtype)

    gates = found.gates * hidden_size
    weight_hh = some(gates, hidden_size) if found.hidden else None
    state = [some(batch, hidden_size)] * found.states
    weights = some(found.inputs * hidden_size, I), weight_hh, None, None, None, None
    steps = some(steps, batch, I), state, *weights, [], None, None, [], None, None, None
    return Call.of(kernel, *steps, False, False)


@pytest.mark.parametrize(
    ("kind", "dtype", "batch", "hidden_size", "expected"),
    [
        ("lstm", torch.float32, 64, 32, "resident"),
        ("lstm", torch.float32, 64, 128, "split"),
        ("lstm", torch.float32, 64, 512, "streamed"),
        ("lstm", torch.bfloat16, 64, 512, "split"),
        ("gru", torch.bfloat16, 256, 512, "streamed"),
        ("gru", torch.bfloat16, 4096, 64, "resident"),
        ("gru", torch.float32, 4096, 256, "memory"),
        ("gru", torch.float32, 4096, 512, "external"),
        ("layer_norm_lstm", torch.float32, 64, 128, "memory"),
        ("layer_norm_lstm", torch.float32, 64, 512, "external"),
        ("gru_reset_before", torch.float32, 64, 512, "memory"),
        ("rhn", torch.float32, 64, 32, "resident"),
        ("rhn", torch.float32, 64, 512, "memory"),
        ("min_gru", torch.float32, 64, 512, "none"),
    ],
)
def test_the_plan_depends_on_the_sizes(kind, dtype, batch, hidden_size, expected):
    """On a GPU with 132 multiprocessors, each with 227 KiB of shared memory."""
    from seqcells.kernels.triton import problem

    call = call_of(kind, dtype, 1, batch, hidden_size)
    assert problem.Problem(call).plan.product == expected


@pytest.mark.parametrize(
    ("kind", "dtype", "steps", "batch", "hidden_size", "expected"),
    [
        ("lstm", torch.float32, 128, 64, 128, True),
        ("lstm", torch.float32, 128, 64, 256, False),
        ("rnn_tanh", torch.float32, 128, 64, 256, True),
        ("gru", torch.bfloat16, 128, 64, 64, False),
        ("gru", torch.bfloat16, 16, 64, 64, True),
        ("gru", torch.bfloat16, 128, 256, 1024, True),
        ("gru", torch.float16, 128, 64, 512, True),
    ],
)
def test_cudnn_is_preferred_where_it_is_faster(kind, dtype, steps, batch, hidden_size, expected):
    call = call_of(kind, dtype, steps, batch, hidden_size)
    assert seqcells.recurrence.choice._prefers_cudnn(call) == expected


def test_rows_are_sorted_and_end_early(monkeypatch):
    """Rows of similar length share a program, whose loop is as long as its longest row."""
    from seqcells.kernels.triton import problem

    shape = {}
    make = problem.Rows.of

    def remembered(call):
        shape["rows"] = make(call)
        return shape["rows"]

    monkeypatch.setattr(problem.Rows, "of", remembered)
    with backend("triton"):
        Recurrent(make_cell("lstm", I, H))(random(T, B, I), lengths=torch.tensor(LENGTHS))
    assert shape["rows"].order.tolist() == [2, 0, 4, 3, 1]


def test_tensors_of_another_device_raise():
    recurrent = Recurrent(make_cell("gru", I, H)).to("meta")
    with backend("triton"), pytest.raises(RuntimeError, match="on the CPU, got meta"):
        recurrent(random(T, B, I).to("meta"))


def test_without_triton_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(triton.availability, "installed", lambda: False)
    assert "pip install triton" in seqcells.backends()["triton"]
    with backend("triton"), pytest.raises(RuntimeError, match="pip install triton"):
        Recurrent(make_cell("gru", I, H))(random(T, B, I))


# Triton compiles for a GPU without having one.


def compiled_for(capability, cells, sizes, dtypes):
    script = Path(__file__).parent / "compile_for_gpus.py"
    given = map(json.dumps, [capability, SHARED[capability], cells, sizes, dtypes])
    # Triton's own code causes this warning on Python 3.13.
    ignored = "ignore:AnnAssign.__init__ missing:DeprecationWarning"
    run = [sys.executable, "-W", "error", "-W", ignored, str(script), *given]
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    result = subprocess.run(run, capture_output=True, text=True, timeout=1200, env=env)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout)


# Bytes of shared memory that a program can have.
SHARED = {80: 163 << 10, 86: 99 << 10, 90: 227 << 10}


@pytest.mark.slow
def test_kernels_compile_for_a_gpu():
    found = compiled_for(90, ["lstm", "gru_reset_before"], [64], ["float32"])
    assert len(found) == 4
    assert [kernel["product"] for kernel in found] == ["split"] * 2 + ["resident"] * 2
    for kernel in found:
        assert kernel["tensor_cores"]
        # Weights go to shared memory before time begins: gate by gate, or all gates in two parts.
        assert kernel["before"] >= (2 if kernel["product"] == "split" else 3)
        assert kernel["shared"] <= SHARED[90]


@pytest.mark.slow
def test_kernels_of_late_products_compile_for_a_gpu():
    """Of built-in cells and of a user's, with stages whose gates share or separate their sums."""
    own = [str(record(cell(I, H, dtype=F64))[0]) for cell in (Staged, Centred)]
    found = compiled_for(90, ["multiplicative_lstm", "rhn", "lem", *own], [64], ["float32"])
    products = ["memory", "memory", "resident", "memory", "resident"]
    assert [kernel["product"] for kernel in found] == [made for made in products for _ in range(2)]
    assert all(kernel["tensor_cores"] for kernel in found)
    assert max(kernel["shared"] for kernel in found) <= SHARED[90]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("capability", "sizes", "dtype"),
    [
        (80, [64], "float32"),
        (86, [128], "bfloat16"),
        (90, [64, 512], "float32"),
        (90, [20, 256], "bfloat16"),
    ],
)
def test_every_kernel_compiles_for_every_gpu(capability, sizes, dtype):
    """Shared memory stays within what a program can have."""
    cells = [kind for kind in CELLS if kind != "lstm_proj"]
    found = compiled_for(capability, cells, sizes, [dtype])
    assert len(found) >= 2 * len(cells) * len(sizes)
    assert [kernel for kernel in found if kernel["shared"] > SHARED[capability]] == []
