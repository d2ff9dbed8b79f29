"""Opacus trains the layers with per-sample gradients."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import seqcells

opacus = pytest.importorskip("opacus")
from opacus.grad_sample import GradSampleModule  # noqa: E402
from opacus.layers import DPGRU, DPLSTM, DPRNN  # noqa: E402

from seqcells.adapters import opacus as adapter  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Full backward hook is firing"),
    pytest.mark.filterwarnings("ignore:Secure RNG turned off"),
    pytest.mark.filterwarnings("ignore:Optimal order is the largest alpha"),
]
THEIRS = {"RNN": DPRNN, "GRU": DPGRU, "LSTM": DPLSTM}
KINDS = pytest.mark.parametrize("kind", THEIRS)
T, B, I, H = 6, 4, 3, 5  # noqa: E741
F64 = torch.float64


@pytest.fixture(autouse=True)
def registered():
    adapter.register()


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


def layer_of(kind, **options):
    torch.manual_seed(3)
    return getattr(seqcells, kind)(I, H, dtype=F64, **options)


def parts(state):
    return list(state) if isinstance(state, tuple) else [state]


def total(results):
    """Return a sum that depends on the outputs and on all final states."""
    output, state = results
    if isinstance(output, PackedSequence):
        output = output.data
    return output.square().sum() + sum((part.sin() * 2).sum() for part in parts(state))


def samples(wrapped):
    found = {name.removeprefix("_module."): p.grad_sample for name, p in wrapped.named_parameters()}
    assert all(isinstance(part, torch.Tensor) for part in found.values())
    return found


def by_sample(layer, loss, rows):
    """Return the gradients of one backward pass per row."""
    found = []
    for row in range(rows):
        gradients = torch.autograd.grad(loss(layer, row), list(layer.parameters()))
        found.append(gradients)
    names = [name for name, _ in layer.named_parameters()]
    return dict(zip(names, map(torch.stack, zip(*found, strict=True)), strict=True))


@KINDS
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}])
@pytest.mark.parametrize("batch_first", [False, True])
def test_gradients_equal_those_of_the_layers_of_opacus(kind, options, batch_first):
    ours = layer_of(kind, batch_first=batch_first, **options)
    theirs = THEIRS[kind](I, H, batch_first=batch_first, **options).double()
    theirs.load_state_dict(ours.state_dict())
    inputs = torch.randn(T, B, I, dtype=F64)
    found = []
    for layer in (ours, theirs):
        wrapped = GradSampleModule(layer, batch_first=batch_first, loss_reduction="mean")
        (total(wrapped(inputs.transpose(0, 1) if batch_first else inputs)) / B).backward()
        found.append(samples(wrapped))
    assert found[0].keys() == found[1].keys()
    for name, expected in found[1].items():
        close(found[0][name], expected)


@KINDS
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("steps", ["plain", "lengths", "resets", "both"])
def test_gradients_equal_a_loop_over_samples(kind, nonlinearity, steps):
    options = {"nonlinearity": nonlinearity} if kind == "RNN" else {}
    layer = layer_of(kind, num_layers=2, bidirectional=True, **options)
    inputs = torch.randn(T, B, I, dtype=F64)
    states = [torch.randn(4, B, H, dtype=F64) for _ in range(1 + (kind == "LSTM"))]
    lengths = torch.tensor([6, 0, 3, 1]) if steps in ("lengths", "both") else None
    resets = torch.rand(T, B) < 0.4 if steps in ("resets", "both") else None
    if lengths is not None:
        inputs[3:, 2] = torch.nan  # padding has no effect

    def loss(layer, rows):
        hx = [state[:, rows] for state in states]
        return total(
            layer(
                inputs[:, rows],
                tuple(hx) if kind == "LSTM" else hx[0],
                lengths=None if lengths is None else lengths[rows],
                resets=None if resets is None else resets[:, rows],
            )
        )

    expected = by_sample(layer, lambda layer, row: loss(layer, slice(row, row + 1)), B)
    wrapped = GradSampleModule(layer, batch_first=False, loss_reduction="sum")
    loss(wrapped, slice(None)).backward()
    for name, part in samples(wrapped).items():
        close(part, expected[name])
        close(layer.get_parameter(name).grad, expected[name].sum(0))


@KINDS
@pytest.mark.parametrize("batch_first", [False, True])
def test_rows_of_a_packed_sequence_are_those_of_the_batch(kind, batch_first):
    layer, lengths = layer_of(kind, bidirectional=True, batch_first=batch_first), [2, 6, 1, 3]
    inputs = torch.randn(T, B, I, dtype=F64)
    packed = pack_padded_sequence(inputs, lengths, enforce_sorted=False)
    plain, state = copy.deepcopy(layer)(packed)

    def loss(layer, row):
        return total(layer(inputs[: lengths[row], row]))

    expected = by_sample(layer, loss, B)
    wrapped = GradSampleModule(layer, batch_first=batch_first, loss_reduction="sum")
    output, final = wrapped(packed)
    for found, wanted in zip((*output, *parts(final)), (*plain, *parts(state)), strict=True):
        close(found, wanted)
    total((output, final)).backward()
    for name, part in samples(wrapped).items():
        close(part, expected[name])


def test_a_layer_that_is_called_twice_adds_its_gradients():
    layer = layer_of("GRU")
    one, other = torch.randn(2, T, B, I, dtype=F64)

    def loss(layer, rows):
        return total(layer(one[:, rows])) + total(layer(other[:3, rows]))

    expected = by_sample(layer, lambda layer, row: loss(layer, slice(row, row + 1)), B)
    wrapped = GradSampleModule(layer, batch_first=False, loss_reduction="sum")
    loss(wrapped, slice(None)).backward()
    for name, part in samples(wrapped).items():
        close(part, expected[name])


class Classifier(nn.Module):
    """Read the final hidden state, which Opacus' hooks do not see."""

    def __init__(self, recurrent, kind):
        super().__init__()
        self.embedding = nn.Embedding(11, I)
        self.recurrent = recurrent(I, H, batch_first=True)
        self.head = nn.Linear(H, 2)
        self.kind = kind

    def forward(self, tokens):
        _, state = self.recurrent(self.embedding(tokens))
        return self.head((state[0] if self.kind == "LSTM" else state)[-1])


def private_training(model, tokens, labels):
    """Train with clipping and no noise, on batches in order; return the weights by name."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    data = torch.utils.data.TensorDataset(tokens, labels)
    loader = torch.utils.data.DataLoader(data, batch_size=8)
    model, optimizer, loader = opacus.PrivacyEngine().make_private(
        module=model,
        optimizer=optimizer,
        data_loader=loader,
        noise_multiplier=0.0,
        max_grad_norm=0.3,
        poisson_sampling=False,
    )
    for rows, wanted in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(rows), wanted).backward()
        optimizer.step()
    parts = model._module.named_children()  # layers of Opacus rename the parameters of their cells
    return {(part, name): p for part, child in parts for name, p in child.named_parameters()}


@KINDS
def test_private_training_equals_that_of_the_layers_of_opacus(kind):
    tokens, labels = torch.randint(11, (24, T)), torch.randint(2, (24,))
    ours = Classifier(getattr(seqcells, kind), kind).double()
    theirs = Classifier(THEIRS[kind], kind).double()
    for name, part in theirs.named_children():
        part.load_state_dict(ours.get_submodule(name).state_dict())
    expected = private_training(theirs, tokens, labels)
    for name, found in private_training(ours, tokens, labels).items():
        close(found, expected[name])


def test_poisson_batches_and_noise_train():
    torch.manual_seed(0)
    tokens, labels = torch.randint(11, (24, T)), torch.randint(2, (24,))
    model = Classifier(seqcells.LSTM, "LSTM")
    before = copy.deepcopy(model.state_dict())
    engine = opacus.PrivacyEngine()
    model, optimizer, loader = engine.make_private(
        module=model,
        optimizer=torch.optim.Adam(model.parameters()),
        data_loader=torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(tokens, labels), batch_size=4
        ),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
    )
    for rows, wanted in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(rows), wanted).backward()
        optimizer.step()
    after = model._module.state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert engine.get_epsilon(1e-5) > 0


def test_evaluation_and_removed_hooks_leave_the_layer_as_it_was():
    layer = layer_of("GRU")
    inputs = torch.randn(T, B, I, dtype=F64)
    expected, _ = layer(inputs)
    wrapped = GradSampleModule(layer, batch_first=False)
    close(wrapped.eval()(inputs)[0], expected)
    wrapped.train()
    with torch.no_grad():
        close(wrapped(inputs)[0], expected)
    wrapped.remove_hooks()
    assert type(layer) is seqcells.GRU
    layer(inputs)[0].sum().backward()
    assert layer.weight_hh_l0.grad_sample is None


def test_errors_state_what_is_expected():
    with pytest.raises(ValueError, match="proj_size: expected 0"):
        GradSampleModule(seqcells.LSTM(I, H, proj_size=2))
    with pytest.raises(ValueError, match="expected 'hooks' for layers of seqcells"):
        opacus.grad_sample.GradSampleModuleFastGradientClipping(seqcells.GRU(I, H))
    layer = nn.utils.parametrizations.weight_norm(seqcells.GRU(I, H), "weight_hh_l0")
    with pytest.raises(ValueError, match="remove_parametrizations"):
        GradSampleModule(layer)


@KINDS
def test_autocast_gives_float32_gradients(kind):
    layer = layer_of(kind).float()
    inputs, found = torch.randn(T, B, I), []
    for enabled in (False, True):
        wrapped = GradSampleModule(layer, batch_first=False, loss_reduction="sum")
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output, _ = wrapped(inputs)
        output.float().square().sum().backward()
        found.append(torch.cat([part.flatten() for part in samples(wrapped).values()]))
        wrapped.remove_hooks()
    assert found[1].dtype is torch.float32
    assert (found[1] - found[0]).norm() < 0.02 * found[0].norm()
