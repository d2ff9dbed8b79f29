"""Cells with several heads, against the same cells with block-diagonal matrices."""

import pytest
import torch
from cell_table import CELLS
from parity import F64, close, leaves, random

import seqcells
from seqcells import Recurrent
from seqcells.equations.heads import full_matrix
from seqcells.equations.protocol import has_matrix

SIZES = [(2, 32), (4, 64), (3, 144), (2, 10)]  # heads, H; the last one has no whole vectors
SHAPES = [(3, 2, 1), (20, 9, 2), (40, 1, 2), (9, 20, 2)]  # T, B, threads
QUICK = ("lstm", "gru_reset_before")


def make(kind, heads, hidden, dtype=F64):
    return CELLS[kind].cell(7, hidden, heads=heads, dtype=dtype, **CELLS[kind].options)


def is_made(kind):
    try:
        make(kind, 1, 1)
    except TypeError:
        return False  # an IndRNN has no argument `heads`
    return True


KINDS = [kind for kind in CELLS if kind != "lstm_proj" and is_made(kind)]
KINDS = [kind for kind in KINDS if has_matrix(make(kind, 1, 1))]
MARKED = [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]


def block_diagonal(cell, kind):
    """Return the cell of one head with the same weights, zero between the heads."""
    whole = make(kind, 1, cell.hidden_size, cell.weight_ih.dtype)
    state = cell.state_dict()
    state["weight_hh"] = full_matrix(cell.weight_hh.detach(), cell.hidden_size)
    whole.load_state_dict(state)
    return whole


def results(run, inputs, **options):
    inputs = inputs.detach().requires_grad_()
    outputs, final = run(inputs, **options)
    parameters = dict(run.cell.named_parameters())
    grads = torch.autograd.grad(outputs.cos().sum(), [inputs, *parameters.values()])
    return [outputs, *leaves(final)], dict(zip(["inputs", *parameters], grads))


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_the_full_matrix_has_the_blocks_of_the_heads():
    weight = torch.arange(1.0, 17).reshape(8, 2)  # two gates, two heads of two units
    expected = torch.zeros(8, 4)
    for row in range(8):
        head = row % 4 // 2
        expected[row, 2 * head : 2 * head + 2] = weight[row]
    assert torch.equal(full_matrix(weight, 4), expected)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("kind", MARKED)
def test_heads_equal_a_block_diagonal_matrix(kind, backend, threads):
    for heads, hidden in SIZES:
        cell = make(kind, heads, hidden)
        assert cell.weight_hh.shape == (len(cell.gates) * hidden, hidden // heads)
        whole = block_diagonal(cell, kind)
        for T, B, count in SHAPES if backend == "auto" else SHAPES[:1]:
            threads(count)
            inputs, options = random(T, B, 7), {"lengths": [T - n % 3 for n in range(B)]}
            with seqcells.backend(backend):
                found, grads = results(Recurrent(cell), inputs, **options)
            with seqcells.backend("reference"):
                expected, exact = results(Recurrent(whole), inputs, **options)
            close(found, expected, 1e-10)
            full = full_matrix(torch.ones_like(cell.weight_hh), hidden)
            for name, grad in grads.items():
                truth = exact[name]
                if name == "weight_hh":
                    grad, truth = full_matrix(grad, hidden), truth * full
                assert (grad - truth).norm() <= 1e-10 * truth.norm(), name


@pytest.mark.parametrize("kind", ["lstm", "gru_reset_before"])
def test_reduced_precision_with_heads(kind):
    torch.manual_seed(0)
    cell = make(kind, 3, 96, torch.float32)
    inputs, whole = torch.randn(20, 5, 7), block_diagonal(cell, kind)
    with torch.autocast("cpu", torch.bfloat16):
        found, grads = results(Recurrent(cell), inputs)
        expected, exact = results(Recurrent(whole), inputs)
    close(found, expected, 2e-3)
    for name in ("inputs", "weight_ih", "bias_ih"):
        assert (grads[name] - exact[name]).norm() <= 0.01 * exact[name].norm(), name
    with torch.no_grad():
        small, exact = seqcells.quantize(Recurrent(cell))(inputs)[0], Recurrent(cell)(inputs)[0]
    assert 0 < (small - exact).norm() < 0.03 * exact.norm()


def test_steps_compiled_graphs_and_stacks_with_heads():
    torch.manual_seed(0)
    cell = seqcells.SLSTMCell(7, 64, heads=4)
    inputs = torch.randn(6, 2, 7)
    with torch.no_grad():
        expected = Recurrent(cell)(inputs)[0]
        stepper, state = seqcells.Stepper(cell, 2), None
        for step, now in zip(inputs, expected):
            state = cell(step, state)
            close(stepper(step), now, 1e-5)
            close(state.hidden, now, 1e-5)
        compiled = torch.compile(Recurrent(cell), backend="eager", fullgraph=True)
        close(compiled(inputs)[0], expected, 1e-6)
    stack = seqcells.Stack([cell, seqcells.SLSTMCell(64, 64, heads=2)])
    assert stack(inputs)[0].shape == (6, 2, 64)


def test_initialisation_by_heads():
    cell = seqcells.LSTMCell(3, 12, heads=3)
    seqcells.init.orthogonal_(cell)
    blocks = cell.weight_hh.detach().split(4)
    for block in blocks:
        close(block @ block.T, torch.eye(4), 1e-5)
    seqcells.init.identity_(cell)
    assert torch.equal(cell.weight_hh.detach(), torch.eye(4).repeat(12, 1))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: seqcells.LSTMCell(3, 10, heads=3), "a divisor of hidden_size"),
        (lambda: seqcells.GRUCell(3, 10, heads=0), "at least 1"),
        (lambda: seqcells.LSTMCell(3, 10, heads=2, proj_size=4), "expected 1 with proj_size"),
        (lambda: seqcells.MinGRUCell(3, 10, heads=2), "expected 1 for MinGRUCell"),
        (lambda: seqcells.quantize(seqcells.LSTMCell(3, 10, heads=2)), "a multiple of 16 units"),
    ],
)
def test_errors(build, message):
    with pytest.raises(ValueError, match=message):
        build()
