"""The kernels for GPUs against the readable loop: in Triton's interpreter, where there is none."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from core_helpers import (
    F64,
    KERNEL_CELLS,
    close,
    leaves,
    make_cell,
    make_layers,
    prefer_plan,
    random,
)
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import seqcells
from seqcells import Noise, Recurrent, backend
from seqcells.equations.catalogue import kernel_of
from seqcells.equations.protocol import factor_of
from seqcells.kernels import cudnn, triton
from seqcells.kernels.call import Call
from seqcells.recurrence import choice
from seqcells.state import map_state

pytestmark = pytest.mark.skipif(
    triton.unavailable() is not None or not triton.interprets(),
    reason="a GPU is here (tests/core/test_cuda.py) or Triton is not",
)

T, B, I, H = 4, 5, 3, 6  # noqa: E741
LENGTHS = [3, 0, 4, 1, 2]
RESETS = torch.arange(T * B).reshape(T, B) % 3 == 1
OPTIONS = {
    "padded": {},
    "lengths": {"lengths": LENGTHS},
    "resets": {"lengths": LENGTHS, "resets": RESETS},
}
SLICED = ("split", "streamed")
PRODUCTS = ("resident", "memory", *SLICED, "external")


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slow if name in ("memory", "streamed") else [])
        for name in PRODUCTS
    ]
)
def product(request, monkeypatch):
    """The tests once by each way to make the recurrent product, as if the sizes asked for it."""
    prefer_plan(request.param, monkeypatch)
    return request.param


@pytest.fixture
def launched(monkeypatch):
    """The kernels that are launched, and how each makes the recurrent product."""
    from seqcells.kernels.triton import launch

    seen, run = [], launch.launch

    def counted(kernel, *arguments, **constants):
        seen.append((kernel.fn.__name__, constants["PRODUCT"]))
        run(kernel, *arguments, **constants)

    monkeypatch.setattr(launch, "launch", counted)
    return seen


def upstream(results):
    """The same gradients for the same shapes, whatever their dtypes and layouts."""
    torch.manual_seed(1)
    return [torch.randn(part.shape, dtype=F64).to(part.dtype) for part in results]


def compute(recurrent, inputs, name, *, state=None, noise=None, **options):
    recurrent.zero_grad()
    given = [inputs, *([] if state is None else leaves(state))]
    sources = [source.clone().requires_grad_() for source in given]
    parts = iter(sources[1:])
    start = None if state is None else map_state(lambda part: next(parts), state)
    with backend(name):
        outputs, final = recurrent(sources[0], start, noise=noise, **options)
    results = [*leaves(outputs), *leaves(final)]
    torch.autograd.backward(results, upstream(results))
    found = [source.grad for source in (*sources, *recurrent.parameters())]
    return [*results, *found]


def both(recurrent, inputs, tolerance=1e-12, **options):
    ours, loop = (compute(recurrent, inputs, name, **options) for name in ("triton", "reference"))
    close(ours, loop, tolerance)


# Each way to make the product, each form and both directions; all together where time is no matter.
QUICK = {
    ("resident", "padded", False),
    ("resident", "resets", False),
    ("memory", "resets", True),
    ("split", "resets", True),
    ("external", "lengths", True),
}
CASES = [
    pytest.param(*case, marks=[] if case in QUICK else pytest.mark.slow)
    for case in itertools.product(PRODUCTS, OPTIONS, [False, True])
]


@pytest.mark.parametrize(("product", "form", "reverse"), CASES)
@pytest.mark.parametrize("kind", KERNEL_CELLS)
def test_they_compute_what_the_loop_does(kind, product, form, reverse, monkeypatch, launched):
    prefer_plan(product, monkeypatch)
    cell = make_cell(kind, I, H)
    state = map_state(torch.randn_like, cell.initial_state(B))
    both(Recurrent(cell, reverse=reverse), random(T, B, I), state=state, **OPTIONS[form])
    assert {name for name, _ in launched} == {"forward", "backward"}
    entangled = kind.endswith(("reset_before", "proj"))
    impossible = (*SLICED, "external") if entangled else SLICED if "norm" in kind else ()
    has_product = kernel_of(cell.built_in_kernel()).hidden
    expected = "resident" if product in impossible else product
    assert {made for _, made in launched} == {expected if has_product else "none"}


@pytest.mark.parametrize("kind", KERNEL_CELLS)
def test_with_noise(kind, product):
    form = "constant" if product == "memory" else "changing"
    cell = make_cell(kind, I, H)
    kernel = kernel_of(cell.built_in_kernel())
    state = map_state(torch.randn_like, cell.initial_state(B))
    time = (T,) if form == "changing" else ()

    def factor(width):
        return torch.rand(*time, B, width, dtype=F64)

    hidden = kernel.hidden or factor_of(cell) == "hidden"
    candidate = kernel.takes_drop and factor_of(cell) == "candidate"
    noise = Noise(
        factor(leaves(state)[0].shape[1]) if hidden else None,
        factor(H) if candidate else None,
        map_state(lambda part: factor(part.shape[1]), state),
    )
    options = {"state": state, "noise": noise, **OPTIONS["resets"]}
    both(Recurrent(cell, reverse=form == "constant"), random(T, B, I), **options)


@pytest.mark.parametrize(
    ("kind", "product", "sizes"),
    [
        ("gru", "resident", (20, 33)),
        ("gru_reset_before", "memory", (20, 70)),
        ("peephole_lstm", "split", (20, 70)),
        ("gru", "streamed", (40, 33)),
        ("peephole_lstm", "external", (20, 150)),
        ("layer_norm_lstm", "external", (70, 20)),
        ("indrnn_tanh", "external", (20, 150)),
    ],
)
def test_of_many_programs(kind, product, sizes, monkeypatch):
    """More rows than one program takes, and more units where programs divide these."""
    prefer_plan(product, monkeypatch)
    rows, hidden_size = sizes
    recurrent, inputs = Recurrent(make_cell(kind, I, hidden_size)), random(2, rows, I)
    both(recurrent, inputs, tolerance=1e-11, lengths=torch.arange(rows) % 3)


@pytest.mark.parametrize("kind", ["lstm", "gru", "layer_norm_lstm", "lstm_proj"])
def test_every_step_s_state(kind, product):
    options = {"all_states": True, **OPTIONS["resets"]}
    both(Recurrent(make_cell(kind, I, H)), random(T, B, I), **options)


@pytest.mark.parametrize("kind", ["rnn_relu", "gru", "lstm", "lstm_proj"])
def test_layers_are_torch_s(kind, product, launched):
    """Padded and packed, of two layers in both directions: outputs, final states, gradients."""
    bias = product != "memory"
    ours, theirs = make_layers(kind, I, H, num_layers=2, bidirectional=True, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    inputs = random(T, B, I)
    packed = pack_padded_sequence(inputs, torch.tensor(LENGTHS).clamp(1), enforce_sorted=False)
    for given in (inputs, packed):
        found = []
        for model in (ours, theirs):
            model.zero_grad()
            with backend("triton"):
                outputs, final = model(given)
            outputs = outputs if given is inputs else outputs.data
            results = [outputs, *leaves(final)]
            torch.autograd.backward(results, upstream(results))
            found.append([*results, *(part.grad for part in model.parameters())])
        close(*found)
    assert len(launched) >= 16


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-5), (torch.float16, 1e-2), (torch.bfloat16, 1e-1)],
    ids=["float32", "float16", "bfloat16"],
)
@pytest.mark.parametrize("kind", ["lstm", "gru_reset_before", "peephole_lstm", "min_lstm"])
def test_short_types_are_summed_in_single_precision(kind, dtype, tolerance, product):
    """Against the loop in double precision, on the same rounded numbers."""
    recurrent = Recurrent(make_cell(kind, I, H)).to(dtype)
    inputs = random(T, B, I).to(dtype)
    ours = compute(recurrent, inputs, "triton", lengths=LENGTHS)
    assert all(part.dtype == dtype for part in ours)
    exact = compute(recurrent.double(), inputs.double(), "reference", lengths=LENGTHS)
    for found, expected in zip(ours, exact):
        assert (found.double() - expected).norm() <= tolerance * expected.norm() + tolerance


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_multiplies_in_its_own_type(dtype, launched):
    recurrent, inputs = Recurrent(make_cell("gru", I, H)).float(), random(T, B, I).float()
    with backend("triton"):
        exact, _ = recurrent(inputs)
        with torch.autocast("cpu", dtype):
            outputs, final = recurrent(inputs)
    assert outputs.dtype == final.dtype == torch.float32
    assert 0 < (outputs - exact).abs().max() < 3e-2
    same = outputs.to(dtype).float()
    assert torch.equal(same, outputs)


def test_the_last_digits_of_tanh_and_softplus(product):
    """Where a series, or a logarithm near 1, takes the place of the formula."""

    class Small(seqcells.GatedCell):
        gates = ("first", "second")

        @staticmethod
        def activate(from_input, from_hidden, state):
            first, second = from_input.chunk(2, dim=-1)
            return first.tanh() * nn.functional.softplus(second), ()

    cell = Small(2, 1, bias=False).float()
    with torch.no_grad():
        cell.weight_ih.copy_(torch.eye(2))
    tiny = torch.tensor([-8.0, -3.0, -1.0, -0.7, -0.6, -0.3, 0.0, 1.0])
    inputs = torch.cartesian_prod(10**tiny, torch.tensor([-60.0, -18.0, -3.0, 0.0, 5.0, 60.0]))
    with backend("triton"):
        outputs, _ = Recurrent(cell)(inputs.unsqueeze(0))
    exact = inputs[:, 0].double().tanh() * nn.functional.softplus(inputs[:, 1].double())
    torch.testing.assert_close(outputs.flatten().double(), exact, rtol=1e-6, atol=0)


class Normed(seqcells.GatedCell):
    """With a parameter, a mean over the row, and constants."""

    gates = ("carry", "candidate")

    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        self.gain = nn.Parameter(torch.rand(self.hidden_size, dtype=options.get("dtype")))

    def activate(self, from_input, from_hidden, state):
        carry, candidate = (from_input + from_hidden).chunk(2, dim=-1)
        candidate = nn.functional.layer_norm(candidate, candidate.shape[-1:], self.gain)
        carry, candidate = carry.sigmoid(), nn.functional.leaky_relu(candidate, 0.1)
        return carry * state + (1 - carry) * candidate, (carry, candidate)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "interpreted"])
def test_a_user_s_own_cell(compiled, product, launched):
    cell = Normed(I, H, dtype=F64)
    cell.compiles = compiled
    both(Recurrent(cell, reverse=True), random(T, B, I), **OPTIONS["resets"])
    assert launched


def test_gradients_of_gradients(product):
    recurrent, inputs = Recurrent(make_cell("gru", I, H)), random(T, B, I).requires_grad_()
    found = []
    for name in ("triton", "reference"):
        with backend(name):
            outputs, final = recurrent(inputs, lengths=LENGTHS)
            sources = [inputs, *recurrent.parameters()]
            total = outputs.square().sum() + final.sum()
            first = torch.autograd.grad(total, sources, create_graph=True)
            found.append(torch.autograd.grad(sum(grad.square().sum() for grad in first), sources))
    close(*map(list, found))


def test_what_stands_past_an_end_reaches_nothing(product):
    recurrent, inputs = Recurrent(make_cell("lstm", I, H)), random(T, B, I)
    clean = compute(recurrent, inputs, "triton", lengths=LENGTHS)
    for row, length in enumerate(LENGTHS):
        inputs[length:, row] = torch.nan
    found = compute(recurrent, inputs, "triton", lengths=LENGTHS)
    for ours, expected in zip(found, clean):
        assert torch.equal(ours, expected)


def test_no_steps_and_no_rows(product):
    recurrent = Recurrent(make_cell("lstm", I, H))
    with backend("triton"):
        for shape in ((0, B, I), (T, 0, I)):
            inputs = random(*shape).requires_grad_()
            outputs, final = recurrent(inputs)
            assert outputs.shape == (*shape[:2], H)
            (outputs.sum() + sum(part.sum() for part in final)).backward()
            assert inputs.grad.shape == shape


def test_weights_that_turn_out_too_large_are_read_at_each_step(monkeypatch, launched):
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
    both(Recurrent(make_cell("lstm", I, H)), random(T, B, I))
    assert {made for _, made in launched} == {"memory"}
    assert {plan.product for _, plan in known} == {"resident", "split", "streamed"}


def call_of(kind, dtype, steps, batch, hidden_size):
    """A call of these sizes, of which nothing is computed."""
    kernel = make_cell(kind, I, 6).built_in_kernel()
    found = kernel_of(kernel)

    def some(*shape):
        return torch.empty(shape, dtype=dtype)

    gates = found.gates * hidden_size
    weight_hh = some(gates, hidden_size) if found.hidden else None
    state = [some(batch, hidden_size)] * found.states
    weights = some(gates, I), weight_hh, None, None, None, None
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
        ("min_gru", torch.float32, 64, 512, "none"),
    ],
)
def test_plans_by_size(kind, dtype, batch, hidden_size, expected):
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
def test_where_cudnn_is_preferred(kind, dtype, steps, batch, hidden_size, expected):
    call = call_of(kind, dtype, steps, batch, hidden_size)
    assert seqcells.recurrence.choice._prefers_cudnn(call) == expected


def test_rows_are_sorted_and_end_early(monkeypatch):
    """A program's loop is as long as its longest row: rows of similar length share one."""
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


def test_by_name_on_tensors_that_it_cannot_take():
    recurrent = Recurrent(make_cell("gru", I, H)).to("meta")
    with backend("triton"), pytest.raises(RuntimeError, match="on the CPU, got meta"):
        recurrent(random(T, B, I).to("meta"))


def test_without_triton(monkeypatch):
    monkeypatch.setattr(triton.availability, "installed", lambda: False)
    assert "pip install triton" in seqcells.backends()["triton"]
    with backend("triton"), pytest.raises(RuntimeError, match="pip install triton"):
        Recurrent(make_cell("gru", I, H))(random(T, B, I))


# cuDNN is asked for through PyTorch's own layers, which the CPU has too.


def on_the_cpu(monkeypatch):
    monkeypatch.setattr(cudnn, "unavailable", lambda: None)
    monkeypatch.setattr(choice, "obstacle", lambda name, call: choice.BACKENDS[name].refuses(call))


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("kind", ["rnn_tanh", "rnn_relu", "gru", "lstm", "lstm_proj"])
def test_cudnn_s_layers_compute_what_the_loop_does(kind, packed, monkeypatch):
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


def test_cudnn_s_gradients_can_be_differentiated(monkeypatch):
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
def test_what_cudnn_cannot_do_is_said(options, words, monkeypatch):
    on_the_cpu(monkeypatch)
    recurrent = Recurrent(make_cell("lstm", I, H))
    with backend("cudnn"), pytest.raises(RuntimeError, match=f"cuDNN takes {words}"):
        recurrent(random(T, B, I), **options)


# That they compile for GPUs, too: Triton's compiler needs none.


def compiled_for(capability, cells, sizes, dtypes):
    script = Path(__file__).parent / "compile_for_gpus.py"
    given = map(json.dumps, [capability, SHARED[capability], cells, sizes, dtypes])
    run = [sys.executable, "-W", "error", str(script), *given]
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    result = subprocess.run(run, capture_output=True, text=True, timeout=1200, env=env)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout)


# Bytes of shared memory that a program can have.
SHARED = {80: 163 << 10, 86: 99 << 10, 90: 227 << 10}


def test_they_compile():
    found = compiled_for(90, ["lstm", "gru_reset_before"], [64], ["float32"])
    assert len(found) == 4
    assert [kernel["product"] for kernel in found] == ["split"] * 2 + ["resident"] * 2
    for kernel in found:
        assert kernel["tensor_cores"]
        # Weights go to shared memory before time begins: gate by gate, or all gates in two parts.
        assert kernel["before"] >= (2 if kernel["product"] == "split" else 3)
        assert kernel["shared"] <= SHARED[90]


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
def test_all_of_them_compile(capability, sizes, dtype):
    """And what stays in a program fits into the memory that it can have there."""
    cells = [kind for kind in KERNEL_CELLS if kind != "lstm_proj"]
    found = compiled_for(capability, cells, sizes, [dtype])
    assert len(found) >= 2 * len(cells) * len(sizes)
    assert [kernel for kernel in found if kernel["shared"] > SHARED[capability]] == []
