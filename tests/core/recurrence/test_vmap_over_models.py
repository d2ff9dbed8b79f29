"""`vmap` over weights: several models in one native call."""

import pytest
import torch
from cell_table import CELLS, make_layers, make_modified, make_random
from parity import F64, close, leaves, random, randomised, some_resets
from torch import autograd
from torch.func import functional_call, grad, jacrev, jvp, stack_module_state, vmap
from torch.nn.utils.rnn import pack_padded_sequence

from seqcells import GatedCell, Recurrent, backend
from seqcells.kernels import cpu

pytestmark = [
    pytest.mark.skipif(cpu.unavailable() is not None, reason="no native code here"),
    # torch's own forward mode warns.
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated"),
]

E, T, B, I, H = 3, 4, 3, 4, 5  # noqa: E741
LENGTHS = torch.tensor([[4, 2, 0], [1, 9, 3], [2, 2, -1]])
QUICK = ("gru", "slstm")
SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in CELLS if kind not in QUICK]
KINDS = pytest.mark.parametrize("kind", [*QUICK, *SLOW])


class Mixed(GatedCell):
    """A cell without a built-in kernel."""

    gates = ("candidate", "keep")

    @staticmethod
    def activate(from_input, from_hidden, state):
        candidate, keep = (from_input + from_hidden).chunk(2, dim=-1)
        candidate, keep = candidate.tanh(), keep.sigmoid()
        return keep * state + (1 - keep) * candidate, (candidate, keep)


@pytest.fixture
def native(monkeypatch):
    """Return the native calls: the function and the number of models, None for a plain call."""
    found, run, run_models = [], cpu.library.run, cpu.library.run_models

    def count(function, problem):
        found.append((function, None))
        run(function, problem)

    def count_models(function, first, second, models):
        found.append((function, models))
        run_models(function, first, second, models)

    monkeypatch.setattr(cpu.library, "run", count)
    monkeypatch.setattr(cpu.library, "run_models", count_models)
    return found


def stacked(models):
    return {name: part.detach() for name, part in stack_module_state(models)[0].items()}


def loss(model, parameters, inputs, *given, **options):
    outputs, state = functional_call(model, parameters, (inputs, *given), options)
    return sum(part.square().sum() for part in (outputs, *leaves(state)))


def of_models(models, inputs, state, lengths, **options):
    """Return the gradients of every model by weights, inputs and state, from one `vmap`."""

    def value(parameters, inputs, state, lengths):
        return loss(models[0], parameters, inputs, state, lengths=lengths, **options)

    return vmap(grad(value, (0, 1, 2)), (0, None, 0, 0))(stacked(models), inputs, state, lengths)


def by_loop(models, inputs, state, lengths, **options):
    """Return the same from a loop over the models."""
    found = []
    for number, model in enumerate(models):
        parameters = {name: part.detach() for name, part in model.named_parameters()}
        own = torch.utils._pytree.tree_map(lambda part, n=number: part[n], state)
        found.append(
            grad(
                lambda p, x, s, m=model, n=number: loss(m, p, x, s, lengths=lengths[n], **options),
                (0, 1, 2),
            )(parameters, inputs, own)
        )
    return found


def agree(found, expected, tolerance):
    for number, one in enumerate(expected):
        mine = torch.utils._pytree.tree_leaves(found)
        theirs = torch.utils._pytree.tree_leaves(one)
        close([part[number] for part in mine], theirs, tolerance)


def stacked_states(cell):
    states = [randomised(cell.initial_state(B)) for _ in range(E)]
    return torch.utils._pytree.tree_map(lambda *parts: torch.stack(parts).detach(), *states)


@KINDS
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(F64, 1e-11), (torch.float32, 1e-4)], ids=["float64", "float32"]
)
def test_models_equal_a_loop_in_one_call_each_way(kind, dtype, tolerance, native):
    models = [
        Recurrent(make_random(kind, I, H, dtype=dtype), reverse=kind == "gru") for _ in range(E)
    ]
    given = random(T, B, I, dtype=dtype), stacked_states(models[0].cell), LENGTHS
    options = {"resets": some_resets(T, B)}
    found = of_models(models, *given, **options)
    assert native == [("forward", E), ("backward", E)]
    agree(found, by_loop(models, *given, **options), tolerance)
    with backend("reference"):
        agree(found, by_loop(models, *given, **options), tolerance)


@pytest.mark.parametrize("by", ["no gradients", "torch.func", "autograd"])
def test_models_share_inputs(by, native):
    """The gradient of shared inputs is a sum over the models."""
    models = [Recurrent(make_random("gru", I, H, dtype=F64)) for _ in range(E)]
    parameters = stacked(models)
    inputs = random(T, B, I).requires_grad_(by == "autograd")

    def outputs(parameters, inputs):
        return functional_call(models[0], parameters, (inputs,))[0]

    def total(inputs):
        return vmap(outputs, (0, None))(parameters, inputs).square().sum()

    leaf = inputs.detach().clone().requires_grad_()
    expected = [model(leaf)[0] for model in models]
    native.clear()
    if by == "no gradients":
        close(vmap(outputs, (0, None))(parameters, inputs), torch.stack(expected), 1e-11)
        assert native == [("forward", E)]
        return
    found = grad(total)(inputs) if by == "torch.func" else autograd.grad(total(inputs), inputs)[0]
    assert native == [("forward", E), ("backward", E)]
    close(found, autograd.grad(sum(part.square().sum() for part in expected), leaf)[0], 1e-11)


def test_models_of_a_cell_without_a_built_in_kernel(native):
    models = [Recurrent(Mixed(I, H, dtype=F64)) for _ in range(E)]
    given = random(T, B, I), stacked_states(models[0].cell), LENGTHS
    found = of_models(models, *given)
    assert native == [("forward", E), ("backward", E)]
    with backend("reference"):
        agree(found, by_loop(models, *given), 1e-11)


def test_samples_without_weights_of_their_own(native):
    """Gradients per sample need models; outputs and common gradients are rows of one batch."""
    model = make_layers("lstm", I, H)[0]
    parameters = {name: part.detach() for name, part in model.named_parameters()}
    samples = random(E, T, B, I)
    vmap(grad(lambda p, x: loss(model, p, x)), (None, 0))(parameters, samples)
    assert native == [("forward", E), ("backward", E)]
    native.clear()
    outputs, state = vmap(model)(samples)
    (outputs.sum() + leaves(state)[1].square().sum()).backward()
    assert native == [("forward", None), ("backward", None)]
    found = [part.grad for part in model.parameters()]
    model.zero_grad()
    for sample, own in zip(samples, outputs):
        expected, (_, cell) = model(sample)
        close(own, expected)
        (expected.sum() + cell.square().sum()).backward()
    close(found, [part.grad for part in model.parameters()], 1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("number", [1, 2, 5, 8])
def test_threads_divide_the_models(number, threads):
    before = torch.get_num_threads()
    models = [make_layers("gru", 24, 64)[0] for _ in range(number)]
    inputs = random(20, 8, 24)
    try:
        torch.set_num_threads(threads)
        found = vmap(grad(lambda p: loss(models[0], p, inputs)))(stacked(models))
    finally:
        torch.set_num_threads(before)
    for n, model in enumerate(models):
        parameters = {name: part.detach() for name, part in model.named_parameters()}
        expected = grad(lambda p, m=model: loss(m, p, inputs))(parameters)
        close([found[name][n] for name in expected], list(expected.values()), 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gru", "lstm_proj"])
def test_derivatives_of_every_kind_equal_the_readable_loop(kind, native):
    """Autograd and its second derivatives, nested transforms, forward mode, packed inputs."""
    models = [make_layers(kind, I, H, num_layers=2, bidirectional=True)[0] for _ in range(E)]
    model, inputs = models[0], random(T, B, I)
    along = {name: torch.randn_like(part) for name, part in stacked(models).items()}
    pieces = random(2, T, B, I)

    def value(p, x):
        return loss(model, p, x)

    def packed(p):
        given = pack_padded_sequence(inputs, [3, 4, 1], enforce_sorted=False)
        return functional_call(model, p, (given,))[0].data.square().sum()

    def every():
        yield grad(lambda p: vmap(value, (0, None))(p, inputs).sum())(stacked(models))
        p = {name: part.requires_grad_() for name, part in stacked(models).items()}
        total = vmap(value, (0, None))(p, inputs).sin().sum()
        first = torch.autograd.grad(total, list(p.values()), create_graph=True)
        yield first
        yield torch.autograd.grad(sum(part.square().sum() for part in first), list(p.values()))
        each = vmap(grad(value), (0, None))(p, inputs)
        yield torch.autograd.grad(
            sum(part.square().sum() for part in each.values()), list(p.values())
        )
        yield vmap(vmap(grad(value), (None, 0)), (0, None))(stacked(models), pieces)
        yield vmap(vmap(grad(value), (0, None)), (None, 0), 1)(stacked(models), pieces)
        yield vmap(jacrev(lambda p: functional_call(model, p, (inputs[:2, :1],))[0][0, 0]))(
            stacked(models)
        )
        yield vmap(lambda p, t: jvp(lambda p: value(p, inputs), (p,), (t,))[1])(
            stacked(models), along
        )
        yield vmap(lambda p, t: jvp(grad(lambda p: value(p, inputs)), (p,), (t,))[1])(
            stacked(models), along
        )
        yield vmap(grad(packed))(stacked(models))

    found = list(every())
    assert ("backward", E) in native
    assert ("forward", 2 * E) in native
    with backend("reference"):
        expected = list(every())
    for one, other in zip(found, expected):
        close(*[torch.utils._pytree.tree_leaves(part) for part in (one, other)], 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("modifier", ["zoneout", "variational", "drop_connect", "composed"])
@pytest.mark.parametrize("randomness", ["same", "different"])
def test_noise_of_models_follows_randomness(modifier, randomness, native):
    model, inputs = Recurrent(make_modified(modifier, "lstm")), random(T, B, I)
    parameters = {name: torch.stack([part.detach()] * E) for name, part in model.named_parameters()}

    def value(p):
        return functional_call(model, p, (inputs,))[0]

    torch.manual_seed(1)
    found = vmap(value, randomness=randomness)(parameters)
    assert native == [("forward", E)]
    assert torch.equal(found[0], found[1]) is (randomness == "same")
    torch.manual_seed(1)
    with backend("reference"):
        close(found, vmap(value, randomness=randomness)(parameters), 1e-11)


@pytest.mark.slow
def test_models_in_bfloat16_equal_a_loop(native):
    models = [Recurrent(make_random("gru", I, H, dtype=torch.bfloat16)) for _ in range(E)]
    inputs = random(T, B, I, dtype=torch.bfloat16)
    found = vmap(lambda p: functional_call(models[0], p, (inputs,))[0])(stacked(models))
    assert native == [("forward", E)]
    with torch.no_grad():
        close(found, torch.stack([model(inputs)[0] for model in models]), 0)
