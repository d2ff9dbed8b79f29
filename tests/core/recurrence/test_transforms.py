"""`torch.func`, forward mode and higher derivatives through a recurrence."""

import pytest
import torch
from cell_table import make_cell, make_layers
from parity import F64, close, leaves, random
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacrev, jvp, vmap
from torch.nn.utils.rnn import pack_padded_sequence

from seqcells import MinGRUCell, Recurrent

# torch's own forward mode warns.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated")

T, B, I, H = 5, 3, 4, 5  # noqa: E741
LENGTHS = torch.tensor([3, 5, 0])

MODELS = {
    "rnn_tanh": lambda: make_layers("rnn_tanh", I, H)[0],
    "gru": lambda: make_layers("gru", I, H, num_layers=2, bidirectional=True)[0],
    "lstm": lambda: make_layers("lstm", I, H)[0],
    "lstm_proj": lambda: make_layers("lstm_proj", I, H)[0],
    "recurrent_gru": lambda: Recurrent(make_cell("gru_reset_before", I, H), reverse=True),
    "recurrent_lstm": lambda: Recurrent(make_cell("lstm", I, H)),
    "recurrent_min_gru": lambda: Recurrent(MinGRUCell(I, H, dtype=F64), reverse=True),
}
KINDS = pytest.mark.parametrize("kind", MODELS)


def weights(model):
    return {name: part.detach() for name, part in model.named_parameters()}


def loss(model, parameters, inputs, lengths=None):
    """Return a scalar of all outputs and final states."""
    outputs, state = functional_call(model, parameters, (inputs,), {"lengths": lengths})
    return sum(part.square().sum() for part in (outputs, *leaves(state)))


def by_autograd(model, inputs, lengths=None):
    """Return the gradients of all parameters by autograd."""
    parameters = {name: part.clone().requires_grad_() for name, part in weights(model).items()}
    value = loss(model, parameters, inputs, lengths)
    return dict(zip(parameters, torch.autograd.grad(value, parameters.values())))


@KINDS
@pytest.mark.parametrize("ragged", [False, True], ids=["padded", "lengths"])
def test_gradients_per_sample_equal_a_loop(kind, ragged):
    model, samples = MODELS[kind](), random(4, T, B, I)
    lengths = torch.randint(0, T + 1, (4, B)) if ragged else None
    each = vmap(grad(lambda p, x, n: loss(model, p, x, n)), (None, 0, 0 if ragged else None))
    found = each(weights(model), samples, lengths)
    for number, sample in enumerate(samples):
        expected = by_autograd(model, sample, lengths[number] if ragged else None)
        close([found[name][number] for name in expected], list(expected.values()), 1e-11)


@KINDS
def test_vmap_over_lengths_clamps_them(kind):
    model, samples = MODELS[kind](), random(2, T, B, I)
    lengths = torch.tensor([[1, 9, -3], [0, 2, 5]])
    found = vmap(lambda x, n: model(x, lengths=n)[0])(samples, lengths)
    for sample, ends, result in zip(samples, lengths.clamp(0, T), found):
        close(result, model(sample, lengths=ends)[0])


@KINDS
def test_forward_mode_equals_finite_differences(kind):
    """By `jvp` and by dual numbers, in inputs and weights, without `requires_grad`."""
    model, inputs = MODELS[kind](), random(T, B, I)
    parameters = weights(model)
    along = ({name: torch.randn_like(part) for name, part in parameters.items()}, random(T, B, I))

    def value(p, x):
        return loss(model, p, x, LENGTHS)

    def moved(step):
        there = {name: part + step * along[0][name] for name, part in parameters.items()}
        return value(there, inputs + step * along[1])

    difference = (moved(1e-6) - moved(-1e-6)) / 2e-6
    with torch.no_grad():
        _, tangent = jvp(value, (parameters, inputs), along)
    assert tangent.abs() > 1e-3
    close(tangent / difference, torch.ones_like(tangent), 1e-6)
    with forward_ad.dual_level():
        duals = {n: forward_ad.make_dual(part, along[0][n]) for n, part in parameters.items()}
        result = value(duals, forward_ad.make_dual(inputs, along[1]))
        close(forward_ad.unpack_dual(result).tangent, tangent, 1e-11)


@pytest.mark.parametrize("kind", ["gru", "recurrent_lstm"])
def test_forward_over_reverse_equals_reverse_over_forward(kind):
    model, inputs, along = MODELS[kind](), random(T, B, I), random(T, B, I)
    parameters = weights(model)

    def value(x):
        return loss(model, parameters, x)

    _, one = jvp(grad(value), (inputs,), (along,))
    two = grad(lambda x: jvp(value, (x,), (along,))[1])(inputs)
    leaf = inputs.clone().requires_grad_()
    (first,) = torch.autograd.grad(value(leaf), leaf, create_graph=True)
    (three,) = torch.autograd.grad((first * along).sum(), leaf)
    with forward_ad.dual_level():
        leaf = inputs.clone().requires_grad_()
        (first,) = torch.autograd.grad(value(forward_ad.make_dual(leaf, along)), leaf)
        four = forward_ad.unpack_dual(first).tangent
    for other in (two, three, four):
        close(one, other, 1e-10)


@pytest.mark.parametrize("kind", ["rnn_tanh", "recurrent_lstm"])
def test_jacobians_and_hessians_equal_autograds(kind):
    model, inputs = MODELS[kind](), random(2, 1, I)

    def run(x):
        return model(x)[0]

    expected = torch.autograd.functional.jacobian(run, inputs)
    close(jacrev(run)(inputs), expected)
    close(torch.autograd.functional.jacobian(run, inputs, vectorize=True), expected)
    second = torch.autograd.functional.hessian(lambda x: run(x).square().sum(), inputs)
    close(hessian(lambda x: run(x).square().sum())(inputs), second, 1e-11)
    assert second.any()


def test_third_derivatives_equal_autograds():
    cell = make_cell("gru", 1, 2)
    first = random(3, 1, 1)

    def value(x):
        return Recurrent(cell)(x)[0].sum()

    def third(x):
        return jvp(
            lambda y: jvp(lambda z: jvp(value, (z,), (first,))[1], (y,), (first,))[1],
            (x,),
            (first,),
        )

    found = third(first)[1]
    point = torch.zeros((), dtype=F64, requires_grad=True)
    result = value(first + point * first)
    for _ in range(3):
        (result,) = torch.autograd.grad(result, point, create_graph=True)
    close(found, result, 1e-10)


@pytest.mark.parametrize("kind", ["rnn_tanh", "gru", "lstm", "lstm_proj"])
@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
@pytest.mark.parametrize("form", ["lengths", "packed"])
def test_gradients_of_layers_equal_finite_differences(kind, check, form):
    model, _ = make_layers(kind, 2, 4)
    names = [name for name, _ in model.named_parameters()]

    def call(inputs, *parameters):
        given = dict(zip(names, parameters))
        if form == "packed":
            packed = pack_padded_sequence(inputs, [3, 1], enforce_sorted=False)
            outputs, state = functional_call(model, given, (packed,))
            return outputs.data, *leaves(state)
        outputs, state = functional_call(model, given, (inputs,), {"lengths": [2, 3]})
        return outputs, *leaves(state)

    points = [random(3, 2, 2), *weights(model).values()]
    fast = {"fast_mode": True} if check is torch.autograd.gradgradcheck else {}
    assert check(call, [point.requires_grad_() for point in points], **fast)
