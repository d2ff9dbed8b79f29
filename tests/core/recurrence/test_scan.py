"""The scan over time equals the loop over steps."""

from itertools import pairwise

import pytest
import torch
from parity import F64, by_hand, close, random
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import seqcells
from seqcells import LinearCell, MinGRUCell, MinLSTMCell, Recurrent
from seqcells.recurrence.scan import scan

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated"),  # torch's forward mode
    pytest.mark.usefixtures("each_backend"),
    pytest.mark.parametrize("each_backend", ["reference"], indirect=True),
]

SHAPE = (3, 2)
STEPS = pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 7, 8, 9, 31, 64])


def step_by_step(a, b, h):
    states = []
    for t in range(len(b)):
        h = a[t] * h + b[t]
        states.append(h)
    return torch.stack(states)


def coefficients(steps, dtype=F64):
    """Return a within [0, 1] including both ends, and b and the start of either sign."""
    a = torch.rand(steps, *SHAPE, dtype=dtype)
    a[torch.rand(a.shape) < 0.2] = 0
    a[torch.rand(a.shape) < 0.2] = 1
    return a, random(steps, *SHAPE, dtype=dtype), random(*SHAPE, dtype=dtype)


@STEPS
def test_states_and_gradients_equal_the_loop(steps):
    results = []
    values, upstream = coefficients(steps), random(steps, *SHAPE)
    for function in (scan, step_by_step):
        leaves = [value.clone().requires_grad_() for value in values]
        states = function(*leaves)
        results.append([states, *torch.autograd.grad(states, leaves, upstream)])
    close(*results, 1e-13)


@pytest.mark.parametrize("steps", [1, 2, 5, 6])
def test_derivatives_equal_finite_differences(steps):
    values = [value.requires_grad_() for value in coefficients(steps)]
    assert torch.autograd.gradcheck(scan, values, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(scan, values)
    both = [torch.func.hessian(lambda *v, f=f: f(*v).square().sum()) for f in (scan, step_by_step)]
    close(*(hessian(*(value.detach() for value in values)) for hessian in both))


def test_no_steps():
    a, b, start = coefficients(0)
    assert scan(a, b, start).shape == (0, *SHAPE)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0], ids=["vanishing", "small", "to_one"])
def test_float32_over_a_long_time_errs_no_more_than_the_loop(scale):
    """Products of many small a may vanish, because nothing is divided by them."""
    a, b, start = coefficients(3000, torch.float32)
    a = a * scale
    exact = step_by_step(a.double(), b.double(), start.double())
    found, looped = scan(a, b, start), step_by_step(a, b, start)
    assert found.isfinite().all()
    assert (found - exact).norm() <= 2 * (looped - exact).norm() + 1e-6 * exact.norm()


class Average(LinearCell):
    """The example of `LinearCell`'s docstring."""

    gates = ("keep", "candidate")

    def coefficients(self, from_input):
        keep, candidate = from_input.chunk(2, dim=-1)
        keep = keep.sigmoid()
        return (keep, (1 - keep) * candidate), (keep, candidate)


class Squashed(MinGRUCell):
    def activate(self, from_input, from_hidden, state):
        state, gates = super().activate(from_input, from_hidden, state)
        return state.tanh(), gates


class Halved(MinGRUCell):
    def output(self, state):
        return state / 2


class Noted(MinGRUCell):
    steps = 0

    def step(self, *arguments):
        self.steps += 1
        return super().step(*arguments)


class Counted(TorchDispatchMode):
    calls = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls += 1
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("kind", [Average, MinGRUCell, MinLSTMCell])
def test_the_number_of_operations_grows_with_the_logarithm_of_the_steps(kind):
    run, calls = Recurrent(kind(4, 5)), []
    run(torch.randn(1, 2, 4))  # its equations are traced once
    for steps in (128, 256, 512):
        with seqcells.backend("reference"), Counted() as counted:
            run(torch.randn(steps, 2, 4))[0].sum().backward()
        calls.append(counted.calls)
    first, second = (after - before for before, after in pairwise(calls))
    assert second < 1.1 * first < 100


@pytest.mark.parametrize("kind", [Average, Squashed, Halved, Noted])
def test_a_cell_of_a_user_equals_a_loop(kind):
    """A cell that overrides a step runs step by step."""
    cell, inputs = kind(4, 5, dtype=F64), random(7, 3, 4)
    outputs, final = Recurrent(cell)(inputs)
    assert getattr(cell, "steps", 7) == 7
    close([outputs, final], by_hand(cell, inputs))


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_resets_restart_from_a_learned_initial_state(reverse):
    class Started(MinGRUCell):
        def __init__(self, *sizes, **options):
            super().__init__(*sizes, **options)
            self.start = nn.Parameter(random(5))

        def initial_state(self, batch_size, *, device=None, dtype=None):
            return self.start.expand(batch_size, -1)

    cell, inputs, lengths = Started(4, 5, dtype=F64), random(7, 3, 4), [7, 4, 0]
    resets, results = torch.rand(7, 3) < 0.3, []
    for carried in (None, random(3, 5)):
        outputs, final = Recurrent(cell, reverse=reverse)(inputs, carried, lengths, resets)
        state = cell.initial_state(3) if carried is None else carried
        found, expected = [outputs, final], by_hand(cell, inputs, state, lengths, resets, reverse)
        close(found, list(expected))
        results = [torch.autograd.grad(parts[0].sum(), cell.start) for parts in (found, expected)]
        close(*results)


def test_a_step_set_on_the_instance_is_used():
    cell, inputs = MinGRUCell(4, 5, dtype=F64), random(7, 3, 4)
    plain = cell.step
    cell.step = lambda weights, from_input, state: plain(weights, from_input, state * 0.5)
    outputs, final = Recurrent(cell)(inputs)
    close([outputs, final], by_hand(cell, inputs))


def test_a_cell_without_coefficients_raises():
    class Nothing(LinearCell):
        gates = ("only",)

    with pytest.raises(TypeError, match="Nothing has no coefficients method"):
        Recurrent(Nothing(4, 5))(torch.randn(3, 2, 4))


@pytest.mark.parametrize("kind", [MinGRUCell, MinLSTMCell])
def test_results_are_finite_where_all_gates_are_closed(kind):
    """The shares of minLSTM's gates are defined even where both gates round to zero."""
    cell = kind(1, 1, dtype=torch.float32)
    nn.init.constant_(cell.weight_ih, -1.0)
    inputs = torch.full((3, 1, 1), 500.0, requires_grad=True)
    outputs, _ = Recurrent(cell)(inputs)
    outputs.sum().backward()
    assert outputs.isfinite().all()
    assert inputs.grad.isfinite().all()


@pytest.mark.parametrize("kind", [MinGRUCell, MinLSTMCell])
def test_the_outputs_and_the_final_state_share_no_memory(kind):
    outputs, final = Recurrent(kind(4, 5))(torch.randn(3, 2, 4))
    before = final.detach().clone()
    outputs.detach().fill_(7)
    assert torch.equal(final, before)


@pytest.mark.parametrize("kind", [MinGRUCell, MinLSTMCell])
def test_autocast_keeps_the_dtype_of_the_state(kind):
    run, inputs = Recurrent(kind(4, 5)), torch.randn(9, 2, 4)
    exact, _ = run(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, final = run(inputs)
        outputs.sum().backward()
    assert outputs.dtype == final.dtype == torch.float32
    close(outputs, exact, 0.05)
    assert all(parameter.grad.isfinite().all() for parameter in run.parameters())


def test_compiled_in_one_graph():
    run, inputs = Recurrent(MinGRUCell(4, 5, dtype=F64)), random(9, 2, 4)
    resets = torch.rand(9, 2) < 0.3
    lengths = torch.tensor([4, 9])
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    expected = run(inputs, lengths=lengths, resets=resets)
    found = compiled(inputs, lengths=lengths, resets=resets)
    close(found, expected)
    found[0].sum().backward()
    gradients = [parameter.grad.clone() for parameter in run.parameters()]
    run.zero_grad()
    expected[0].sum().backward()
    close(gradients, [parameter.grad for parameter in run.parameters()])
