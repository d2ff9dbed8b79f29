"""Short calls: the kernel computes single steps with little Python before it."""

import sys

import pytest
import torch
from cell_table import make_cell
from parity import F64, close, leaves, random, random_state
from torch import nn

import seqcells
from seqcells import LSTMState, Noise, Recurrent, backend
from seqcells.kernels import cpu
from seqcells.recurrence import brief_steps, choice, fast_path

pytestmark = pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable()))

B, I, H = 3, 4, 5  # noqa: E741
PLAIN = ["rnn_tanh", "rnn_relu", "gru", "lstm", "gru_reset_before", "mgu_reset_before"]
PLAIN += ["coupled_lstm", "light_lstm", "mgu"]
OTHERS = ["lstm_proj", "peephole_lstm", "indrnn_relu", "min_gru", "layer_norm_lstm"]
BRIEF = list(brief_steps.BRIEF)  # trained step by step without a kernel


@pytest.fixture
def plainly(monkeypatch):
    """Return a list that tells for each call whether it was plain."""
    found, run = [], fast_path.compute_plain

    def seen(request):
        results = run(request)
        found.append(results is not None)
        return results

    monkeypatch.setattr("seqcells.recurrence.compute.compute_plain", seen)
    return found


def results_and_gradients(run, sources):
    results = leaves(run())
    generator = torch.Generator().manual_seed(0)
    ends = [torch.rand(part.shape, generator=generator).to(part) for part in results]
    return [*results, *torch.autograd.grad(results, sources, ends, allow_unused=True)]


@pytest.mark.parametrize("kind", [*PLAIN, *OTHERS])
def test_a_step_equals_the_loop(kind, ran, plainly):
    cell = make_cell(kind, I, H)
    input, state = random(B, I).requires_grad_(), random_state(cell, B)
    sources = [input, *leaves(state), *cell.parameters()]
    for part in leaves(state):
        part.requires_grad_()
    ours = results_and_gradients(lambda: cell(input, state), sources)
    ways = [] if kind in BRIEF else ["forward", "backward"]
    assert ran == ways
    assert plainly == ([] if kind in BRIEF else [kind in PLAIN])
    with backend("reference"):
        close(ours, results_and_gradients(lambda: cell(input, state), sources))
    assert ran == ways
    with torch.no_grad():
        close(leaves(cell(input, state)), ours[: len(leaves(state))])
    assert ran == [*ways, "forward"]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", PLAIN)
def test_a_sequence_equals_the_loop(kind, reverse, plainly):
    run, inputs = Recurrent(make_cell(kind, I, H), reverse=reverse), random(6, B, I)
    sources = [inputs.requires_grad_(), *run.parameters()]
    ours = results_and_gradients(lambda: run(inputs), sources)
    assert plainly == [True]
    with backend("reference"):
        close(ours, results_and_gradients(lambda: run(inputs), sources))


TWINS = [(seqcells.RNNCell, nn.RNNCell), (seqcells.GRUCell, nn.GRUCell)]
TWINS += [(seqcells.LSTMCell, nn.LSTMCell)]


@pytest.mark.parametrize(("ours", "theirs"), TWINS)
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_a_loop_over_a_cell_equals_torch(ours, theirs, rows, ran):
    cell, twin = ours(I, H, dtype=F64), theirs(I, H, dtype=F64)
    cell.load_state_dict(twin.state_dict())
    found, inputs = [], random(4, rows, I).requires_grad_()
    for module in (cell, twin):
        state = None
        for input in inputs:
            state = module(input, state)
        total = sum(part.sin().sum() for part in leaves(state))
        grads = torch.autograd.grad(total, [inputs, *module.parameters()])
        found.append([*leaves(state), *grads])
    close(*found)
    assert ran == ([] if ours is seqcells.RNNCell else ["forward"] * 4 + ["backward"] * 4)


def test_calls_that_are_not_plain_equal_the_loop(ran, plainly):
    cell, input, inputs = make_cell("lstm", I, H), random(B, I), random(2, B, I)
    state, noise = random_state(cell, B), Noise(hidden=torch.rand(B, H, dtype=F64))
    for other in (
        lambda: cell(input.t().contiguous().t(), state),
        lambda: cell(input, state, noise),
        lambda: cell(input, LSTMState(*(part[:1].expand(B, -1) for part in state))),
        lambda: Recurrent(cell)(inputs, lengths=[2, 1, 0]),
    ):
        found = other()
        with backend("reference"):
            close(leaves(found), leaves(other()))
    assert plainly[::2] == [False] * 4
    assert len(ran) == 4


def test_a_negated_view_is_resolved():
    """Its memory holds the numbers with the other sign."""
    view = torch.randn(1, 1, dtype=torch.complex128).conj().imag
    assert view.is_neg()
    assert view.is_contiguous()
    for run in (make_cell("gru", 1, H), Recurrent(make_cell("peephole_lstm", 1, H))):
        close(leaves(run(view)), leaves(run(view.clone())))


def test_second_derivatives_equal_finite_differences():
    cell, input = make_cell("gru", I, H), random(2, I).requires_grad_()
    assert torch.autograd.gradcheck(cell, input)
    assert torch.autograd.gradgradcheck(cell, input)
    run, inputs = Recurrent(make_cell("lstm", I, H)), random(3, 2, I).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: run(x)[0], inputs)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_forward_mode_equals_autograd():
    cell, input = make_cell("gru", I, H), random(2, I)
    ways = torch.ones(2, I, dtype=F64)
    _, found = torch.func.jvp(cell, (input,), (ways,))
    close(found, torch.autograd.functional.jvp(cell, input, ways)[1])


def test_an_input_changed_in_place_raises_in_the_backward_pass():
    cell, input = make_cell("lstm", I, H), random(B, I).requires_grad_()
    moved = input * 1
    hidden, _ = cell(moved)
    moved.data.add_(1)  # hidden from autograd, as everywhere in torch
    moved.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        hidden.sum().backward()


STATE = (torch.randn(B, H), torch.randn(B, H))
CHANGES = {
    "other memory": lambda cell: setattr(cell.weight_hh, "data", torch.randn(4 * H, H)),
    "transposed weights": lambda cell: setattr(cell.weight_hh, "data", torch.randn(H, 4 * H).t()),
    "negated weights": lambda cell: setattr(
        cell.weight_ih, "data", torch._neg_view(torch.randn(4 * H, H))
    ),
    "no biases": lambda cell: [setattr(cell, name, None) for name in ("bias_ih", "bias_hh")],
    "transposed input": (torch.randn(H, B).t(), STATE),
    "strided input": (torch.randn(2 * B, H)[::2], STATE),
    "strided hidden state": (torch.randn(B, H), (torch.randn(2 * B, H)[::2], STATE[1])),
    "transposed cell state": (torch.randn(B, H), (STATE[0], torch.randn(H, B).t())),
    "negated state": (torch.randn(B, H), (torch._neg_view(torch.randn(B, H)), STATE[1])),
    "one tensor for both states": (torch.randn(B, H), (STATE[0], STATE[0])),
    "another batch": (torch.randn(1, H), (torch.randn(1, H), torch.randn(1, H))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_plan_is_valid_for_the_same_layout_only(change, ran):
    """After a call that caches a plan, change what it was made for and compare with torch."""
    cell, twin = seqcells.LSTMCell(H, H), nn.LSTMCell(H, H, bias=change != "no biases")
    input, state = torch.randn(B, H), STATE
    with torch.no_grad():
        cell(input, state)
        assert ran == ["forward"]
        if callable(CHANGES[change]):
            CHANGES[change](cell)
        else:
            input, state = CHANGES[change]
        twin.load_state_dict(cell.state_dict())
        close(leaves(cell(input, state)), leaves(twin(input, state)), 1e-5)


def test_a_plan_serves_one_dtype_and_one_kernel():
    """Cells of one memory layout share neither the kernel nor the dtype."""
    gru, before = seqcells.GRUCell(H, H), seqcells.GRUCell(H, H, reset_after=False)
    before.load_state_dict(gru.state_dict())
    before.weight_ih = gru.weight_ih  # the key of the plan
    input, hidden = torch.randn(B, H), torch.randn(B, H)
    with torch.no_grad():
        for cell, dtype in ((gru, torch.float32), (before, torch.float32), (gru, F64)):
            cell.to(dtype)
            found = cell(input.to(dtype), hidden.to(dtype))
            with backend("reference"):
                close(found, cell(input.to(dtype), hidden.to(dtype)), 1e-5)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda cell: setattr(cell, "weight_hh", nn.Parameter(torch.zeros(4 * H, H + 1))),
            "weight_hh",
        ),
        (lambda cell: setattr(cell, "bias_ih", nn.Parameter(torch.zeros(H))), "bias_ih"),
        (
            lambda cell: setattr(cell, "weight_ih", nn.Parameter(torch.zeros(4 * H - 1, I))),
            "weight_ih",
        ),
    ],
)
def test_weights_of_wrong_sizes_never_reach_native_code(spoil, words, ran):
    cell = seqcells.LSTMCell(I, H)
    spoil(cell)
    with pytest.raises((ValueError, RuntimeError), match=words):
        cell(torch.zeros(B, I))
    assert not ran


def python_calls(work):
    """Return the Python functions that a warm call runs."""
    for _ in range(3):
        work()
    names = []

    def count(frame, event, _):
        if event == "call":
            names.append(frame.f_code.co_qualname)

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return names[1:]  # without `work` itself


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_a_call_runs_few_python_functions(kind):
    cell, layer = getattr(seqcells, f"{kind}Cell")(I, H), getattr(seqcells, kind)(I, H)
    input, inputs, run = torch.randn(B, I), torch.randn(7, B, I), Recurrent(cell)
    state = torch.zeros(B, H)
    state = (state, state) if kind == "LSTM" else state
    with torch.no_grad():
        for work, most in (
            (lambda: cell(input, state), 25),
            (lambda: layer(inputs), 45),
            (lambda: run(inputs), 45),
            (lambda: run(inputs, lengths=[7, 1, 2]), 95),
        ):
            found = python_calls(work)
            assert len(found) <= most, found


def test_a_named_reference_backend_is_not_plain(plainly):
    cell = make_cell("lstm", I, H)
    for name in choice.NAMES:
        if name in ("auto", "cpu", "reference"):
            with backend(name):
                cell(random(B, I))
    assert plainly == [True, False, True]
