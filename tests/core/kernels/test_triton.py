"""The Triton kernels equal the readable loop, in Triton's interpreter where there is no GPU."""

import itertools

import pytest
import torch
from cell_table import CELLS, make_cell, make_layers
from pairwise import pairs_of
from parity import (
    F64,
    backends_agree,
    call_options,
    close,
    compute,
    leaves,
    random,
    random_state,
    upstream,
)
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import seqcells
from seqcells import Noise, Recurrent, backend
from seqcells.equations.catalogue import kernel_of
from seqcells.equations.protocol import factor_of
from seqcells.kernels import triton
from seqcells.state import map_state

pytestmark = pytest.mark.skipif(
    triton.unavailable() is not None or not triton.interprets(),
    reason=triton.unavailable() or "a GPU is here (tests/core/test_cuda.py)",
)

T, B, I, H = 3, 4, 3, 6  # noqa: E741
LENGTHS = [2, 0, 3, 1]
OPTIONS = call_options(T, LENGTHS)
SLICED = ("split", "streamed")
PRODUCTS = ("resident", "memory", *SLICED, "external")


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slow if name in ("memory", "streamed") else [])
        for name in PRODUCTS
    ]
)
def product(request, prefer_plan):
    """Run the test with each kind of recurrent product, whatever the sizes are."""
    prefer_plan(request.param)
    return request.param


def assert_equals_loop(recurrent, inputs, tolerance=1e-12, **options):
    backends_agree(recurrent, inputs, "triton", tolerance, **options)


# The interpreter takes long. In the quick tests every cell has every form, three kinds of product
# and both directions, and all combinations of form, product and direction occur.
QUICK = {
    (kind, PRODUCTS[(n + 2 * m) % 5], form, (n // 5 + m) % 2 == 1)
    for n, kind in enumerate(CELLS)
    for m, form in enumerate(OPTIONS)
}
CASES = [
    pytest.param(*case, marks=[] if case in QUICK else pytest.mark.slow)
    for case in itertools.product(CELLS, PRODUCTS, OPTIONS, [False, True])
]


@pytest.mark.parametrize(("kind", "product", "form", "reverse"), CASES)
def test_results_and_gradients_equal_the_loop(kind, product, form, reverse, prefer_plan, launched):
    prefer_plan(product)
    cell = make_cell(kind, I, H)
    state = random_state(cell, B)
    recurrent = Recurrent(cell, reverse=reverse)
    assert_equals_loop(recurrent, random(T, B, I), state=state, **OPTIONS[form])
    assert {name for name, _ in launched} == {"forward", "backward"}
    entangled = cell.late_gates or kind.endswith("proj")
    impossible = (*SLICED, "external") if entangled else SLICED if "norm" in kind else ()
    has_product = kernel_of(cell.built_in_kernel()).hidden
    expected = "resident" if product in impossible else product
    assert {made for _, made in launched} == {expected if has_product else "none"}


# Every cell with one product and one form of noise in the quick tests.
NOISY = [
    pytest.param(kind, product, form, marks=[] if quick else pytest.mark.slow)
    for n, kind in enumerate(CELLS)
    for m, product in enumerate(PRODUCTS)
    for k, form in enumerate(["changing", "constant"])
    for quick in [n % 5 == m and n // 5 % 2 == k]
]


@pytest.mark.parametrize(("kind", "product", "form"), NOISY)
def test_results_and_gradients_with_noise_equal_the_loop(kind, product, form, prefer_plan):
    prefer_plan(product)
    cell = make_cell(kind, I, H)
    kernel = kernel_of(cell.built_in_kernel())
    state = random_state(cell, B)
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
    assert_equals_loop(Recurrent(cell, reverse=form == "constant"), random(T, B, I), **options)


@pytest.mark.parametrize(
    ("kind", "product", "sizes"),
    [
        ("gru", "resident", (20, 33)),
        ("gru_reset_before", "memory", (20, 70)),
        ("rhn", "resident", (20, 33)),
        pytest.param("lem", "memory", (20, 70), marks=pytest.mark.slow),
        pytest.param("peephole_lstm", "split", (20, 70), marks=pytest.mark.slow),
        pytest.param("gru", "streamed", (40, 33), marks=pytest.mark.slow),
        ("peephole_lstm", "external", (20, 150)),
        pytest.param("layer_norm_lstm", "external", (70, 20), marks=pytest.mark.slow),
        pytest.param("indrnn_tanh", "external", (20, 150), marks=pytest.mark.slow),
    ],
)
def test_several_programs_equal_the_loop(kind, product, sizes, prefer_plan):
    """More rows than one program takes, and more units where programs divide the units."""
    prefer_plan(product)
    rows, hidden_size = sizes
    recurrent, inputs = Recurrent(make_cell(kind, I, hidden_size)), random(2, rows, I)
    assert_equals_loop(recurrent, inputs, tolerance=1e-11, lengths=torch.arange(rows) % 3)


def rotated(*kinds):
    """Pair each cell with one product in the quick tests, and with all products in the slow."""
    return [
        pytest.param(kind, product, marks=[] if n % 3 == m else pytest.mark.slow)
        for n, kind in enumerate(kinds)
        for m, product in enumerate(["resident", "split", "external", "memory", "streamed"])
    ]


@pytest.mark.parametrize(
    ("kind", "product"),
    rotated("gru", "lstm", "peephole_lstm", "layer_norm_lstm", "lstm_proj", "slstm", "lem"),
)
def test_all_states_equal_the_loop(kind, product, prefer_plan):
    prefer_plan(product)
    options = {"all_states": True, **OPTIONS["resets"]}
    assert_equals_loop(Recurrent(make_cell(kind, I, H)), random(T, B, I), **options)


@pytest.mark.parametrize(("kind", "product"), rotated("rnn_relu", "gru", "lstm", "lstm_proj"))
def test_layers_equal_torch(kind, product, prefer_plan, launched):
    """Outputs, final states and gradients of bidirectional layers, padded and packed."""
    prefer_plan(product)
    depth = 2 if kind == "lstm_proj" else 1
    bias = product != "memory"
    ours, theirs = make_layers(kind, I, H, num_layers=depth, bidirectional=True, bias=bias)
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
    assert len(launched) >= 8 * depth


TOLERANCES = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 1e-1}


@pairs_of(
    kind=["lstm", "gru_reset_before", "peephole_lstm", "min_lstm", "rhn"],
    dtype=list(TOLERANCES),
    product=["resident", "split", "external"],
)
def test_short_types_are_summed_in_single_precision(kind, dtype, product, prefer_plan):
    """Compare with the loop in double precision on the same rounded numbers."""
    prefer_plan(product)
    recurrent, tolerance = Recurrent(make_cell(kind, I, H)).to(dtype), TOLERANCES[dtype]
    inputs = random(T, B, I).to(dtype)
    ours = compute(recurrent, inputs, "triton", lengths=LENGTHS)
    assert all(part.dtype == dtype for part in ours.values())
    exact = compute(recurrent.double(), inputs.double(), "reference", lengths=LENGTHS)
    for name, expected in exact.items():
        error = (ours[name].double() - expected).norm()
        assert error <= tolerance * expected.norm() + tolerance, name


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
    """Near zero a series or a logarithm near 1 replaces the formula."""

    class Small(seqcells.GatedCell):
        gates = ("first", "second")

        @staticmethod
        def activate(from_input, from_hidden, state):
            first, second = from_input.chunk(2, dim=-1)
            return first.tanh() * nn.functional.softplus(second), (first, second)

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
    """A cell with a parameter, a mean over the row, and constants."""

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
def test_a_cell_of_a_user_equals_the_loop(compiled, product, launched):
    cell = Normed(I, H, dtype=F64)
    cell.compiles = compiled
    assert_equals_loop(Recurrent(cell, reverse=True), random(T, B, I), **OPTIONS["resets"])
    assert launched


def test_second_derivatives_equal_the_loop(product):
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


def test_padding_changes_no_result(product):
    recurrent, inputs = Recurrent(make_cell("lstm", I, H)), random(T, B, I)
    clean = compute(recurrent, inputs, "triton", lengths=LENGTHS)
    for row, length in enumerate(LENGTHS):
        inputs[length:, row] = torch.nan
    found = compute(recurrent, inputs, "triton", lengths=LENGTHS)
    for name, expected in clean.items():
        assert torch.equal(found[name], expected), name


def test_no_steps_and_no_rows(product):
    recurrent = Recurrent(make_cell("lstm", I, H))
    with backend("triton"):
        for shape in ((0, B, I), (T, 0, I)):
            inputs = random(*shape).requires_grad_()
            outputs, final = recurrent(inputs)
            assert outputs.shape == (*shape[:2], H)
            (outputs.sum() + sum(part.sum() for part in final)).backward()
            assert inputs.grad.shape == shape
