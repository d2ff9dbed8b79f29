"""`gradient_flow` equals autograd on an unrolled loop, and changes nothing."""

import pytest
import torch
from cell_table import CLASSIC, LAYERS, Highway, Leaky, make_cell, make_layers
from parity import close, leaves, random
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import seqcells
from seqcells import GRUCell, LSTMCell, Recurrent, RNNCell, Stack
from seqcells.inspect.flow import gradient_flow

T, B, I, H = 6, 3, 4, 5  # noqa: E741
F64 = torch.float64
LENGTHS = [4, 6, 0]


def only(flow):
    (norms,) = flow.values()
    return norms


def unrolled_flow(cell, inputs, reverse=False):
    """Unroll: each step's input is a leaf, and the loss is the sum of the last hidden state."""
    steps = [step.clone().requires_grad_() for step in inputs]
    state = None
    for step in reversed(steps) if reverse else steps:
        state = cell(step, state)
    gradients = torch.autograd.grad(leaves(state)[0].sum(), steps)
    return torch.stack([gradient.pow(2).sum(-1).sqrt() for gradient in gradients])


@pytest.mark.usefixtures("each_backend")
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("kind", CLASSIC)
def test_the_flow_equals_an_unrolled_loop(kind, reverse):
    """On each backend by name: hooks do not disable the kernel."""
    cell, inputs = make_cell(kind), random(T, B, I)
    flow = gradient_flow(Recurrent(cell, reverse=reverse), inputs)
    assert list(flow) == ["Recurrent"]
    close(only(flow), unrolled_flow(cell, inputs, reverse), 1e-10)


@pytest.mark.parametrize(
    "cell", [Leaky(), Highway(I, H, dtype=F64), nn.LSTMCell(I, H, dtype=F64)], ids=type
)
def test_the_flow_of_any_cell_equals_an_unrolled_loop(cell):
    inputs = random(T, B, I)
    close(only(gradient_flow(Recurrent(cell), inputs)), unrolled_flow(cell, inputs), 1e-10)


def test_the_flow_equals_the_recursion_of_the_docstring():
    """d_T = phi'(a_T), d_{t-1} = phi'(a_{t-1}) * W_hh^T d_t, dL/dx_t = W_ih^T d_t."""
    cell, inputs = make_cell("rnn_tanh"), random(T, B, I)
    recurrent = Recurrent(cell)
    slopes = (1 - recurrent(inputs)[0] ** 2).detach()
    d, expected = slopes[-1], []
    for t in reversed(range(T)):
        expected.insert(0, (d @ cell.weight_ih).norm(dim=-1))
        d = slopes[t - 1] * (d @ cell.weight_hh)
    close(only(gradient_flow(recurrent, inputs)), torch.stack(expected).detach(), 1e-10)


def from_leaf(layers, inputs, **options):
    """Return the norms by autograd on the whole input, for the last layer's final state."""
    inputs = inputs.clone().requires_grad_()
    _, state = layers(inputs, **options)
    hidden = state[0] if isinstance(state, tuple) else state
    (gradient,) = torch.autograd.grad(hidden[-2 if layers.bidirectional else -1 :].sum(), inputs)
    return gradient.norm(dim=-1)


@pytest.mark.parametrize("batch_first", [False, True], ids=["time_first", "batch_first"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one_way", "both_ways"])
@pytest.mark.parametrize("kind", LAYERS)
def test_layers_and_torchs_layers_have_the_same_flow(kind, bidirectional, batch_first):
    options = {"num_layers": 2, "bidirectional": bidirectional, "batch_first": batch_first}
    ours, theirs = make_layers(kind, I, H, **options)
    theirs.load_state_dict(ours.state_dict())
    inputs = random(B, T, I) if batch_first else random(T, B, I)
    found, expected = only(gradient_flow(ours, inputs)), only(gradient_flow(theirs, inputs))
    assert found.shape == inputs.shape[:2]
    assert not inputs.requires_grad
    close(found, from_leaf(ours, inputs), 1e-10)
    close(found, expected, 1e-10)


@pytest.mark.parametrize("batch_first", [False, True], ids=["time_first", "batch_first"])
@pytest.mark.parametrize("kind", LAYERS)
def test_packed_input_gives_padded_norms(kind, batch_first):
    lengths = [4, 6, 1]
    ours, theirs = make_layers(kind, I, H, bidirectional=True, batch_first=batch_first)
    theirs.load_state_dict(ours.state_dict())
    inputs = random(B, T, I) if batch_first else random(T, B, I)
    packed = pack_padded_sequence(inputs, lengths, batch_first, enforce_sorted=False)
    found = only(gradient_flow(ours, packed))
    close(found, only(gradient_flow(theirs, packed)), 1e-10)
    close(found, only(gradient_flow(ours, inputs, lengths=lengths)), 1e-10)
    rows = found if batch_first else found.T
    for norms, length in zip(rows, lengths):
        assert norms[:length].all()
        assert not norms[length:].any()


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_no_gradient_flows_past_a_length_or_through_a_reset(reverse):
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[2] = True
    recurrent = Recurrent(GRUCell(I, H, dtype=F64), reverse=reverse)
    norms = only(gradient_flow(recurrent, random(T, B, I), lengths=LENGTHS, resets=resets))
    kept = range(3) if reverse else range(2, T)
    expected = [[t in kept and t < length for length in LENGTHS] for t in range(T)]
    assert torch.equal(norms != 0, torch.tensor(expected))


@pytest.mark.parametrize("module", [Recurrent(LSTMCell(I, H)), nn.GRU(I, H), seqcells.GRU(I, H)])
def test_unbatched_input_gives_unbatched_norms(module):
    inputs = random(T, I, dtype=torch.float32)
    norms = only(gradient_flow(module, inputs))
    assert norms.shape == (T,)
    close(norms, only(gradient_flow(module, inputs.unsqueeze(1)))[:, 0], 1e-5)


def wave(input, state=None):
    return torch.sin(input if state is None else input + 0.5 * state)


def test_norms_are_taken_over_all_features():
    inputs, recurrent = random(T, B, 2, 3), Recurrent(wave)
    found, expected = (only(gradient_flow(recurrent, x)) for x in (inputs, inputs.flatten(2)))
    close(found, expected, 1e-10)


def test_a_given_loss_is_used():
    recurrent, inputs = Recurrent(make_cell("lstm")), random(T, B, I).requires_grad_()
    weights = random(T, B, H)
    found = only(gradient_flow(recurrent, inputs, loss=lambda result: (result[0] * weights).sum()))
    (gradient,) = torch.autograd.grad((recurrent(inputs)[0] * weights).sum(), inputs)
    close(found, gradient.norm(dim=-1), 1e-10)
    assert not found.requires_grad
    assert inputs.grad is None


class Tagger(nn.Module):
    """A model with integer inputs, dropout and batch statistics that returns a tensor."""

    def __init__(self):
        super().__init__()
        self.vectors = nn.Embedding(10, I)
        self.lower = nn.GRU(I, H)
        self.dropout = nn.Dropout(0.5)
        self.upper = Stack([(LSTMCell(H, 3), LSTMCell(H, 3)), RNNCell(6, 6)], residual=True)
        self.norm = nn.BatchNorm1d(6)
        self.fails = False

    def forward(self, tokens, *, scale=1.0):
        outputs, _ = self.upper(inputs=self.dropout(self.lower(self.vectors(tokens))[0]))
        outputs = self.norm(outputs[-1]) * scale
        if self.fails:
            raise RuntimeError("it fails")
        return outputs.pow(3)


TOKENS = torch.arange(T * B).reshape(T, B) % 10


def test_every_recurrence_of_a_model_has_its_flow():
    model = Tagger()
    flow = gradient_flow(model, TOKENS, scale=2.0)
    assert list(flow) == ["lower", "upper.layers.0.0", "upper.layers.0.1", "upper.layers.1"]
    assert all(norms.shape == (T, B) and norms.all() for norms in flow.values())


def test_dropout_follows_the_seed():
    model = Tagger()
    torch.manual_seed(3)
    results = []
    gradient_flow(model, TOKENS, loss=lambda result: results.append(result) or result.sum())
    assert torch.equal(results[0], model(TOKENS))


def everything(model):
    """Return everything that a run could change."""
    parts = list(model.modules())
    hooks = [list(part._forward_pre_hooks) for part in parts]
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    return [part.training for part in parts], hooks, grads, state, torch.get_rng_state()


@pytest.mark.parametrize("failure", [None, "model", "loss"])
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_a_run_changes_nothing(train, failure):
    model = Tagger().train(train)
    model.vectors.eval()
    model.lower.register_forward_pre_hook(lambda *_: None)
    model.lower.weight_hh_l0.grad = torch.ones_like(model.lower.weight_hh_l0)
    model.fails = failure == "model"
    running = model.norm.running_mean
    before = everything(model)
    if failure:
        loss = (lambda result: result.missing) if failure == "loss" else None
        with pytest.raises((RuntimeError, AttributeError), match=r"fails|missing"):
            gradient_flow(model, TOKENS, loss=loss)
    else:
        gradient_flow(model, TOKENS)
    after = everything(model)
    assert after[:2] == before[:2]
    for one, two in zip(before[2], after[2]):
        assert (one is None and two is None) or torch.equal(one, two)
    assert all(torch.equal(value, after[3][name]) for name, value in before[3].items())
    assert torch.equal(before[4], after[4])
    assert model.norm.running_mean is running


def test_frozen_models_under_no_grad_have_a_flow():
    cell, inputs = make_cell("gru").requires_grad_(False), random(T, B, I)
    with torch.no_grad():
        found = only(gradient_flow(Recurrent(cell), inputs))
    close(found, unrolled_flow(cell, inputs), 1e-10)


def test_a_residual_path_is_not_counted():
    cells = [RNNCell(I, I, dtype=F64), RNNCell(I, I, dtype=F64)]
    inputs = random(T, B, I)
    nn.init.zeros_(cells[1].weight_ih)
    flow = gradient_flow(Stack(cells, residual=True), inputs, loss=lambda result: result[0].sum())
    assert flow["layers.0"].all()
    assert not flow["layers.1"].any()


def test_a_second_call_has_its_own_flow():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.run = Recurrent(make_cell("gru"))

        def forward(self, inputs):
            _, state = self.run(inputs[:4])
            return self.run(inputs[4:], initial_state=state)[0][-1]

    model, inputs = Twice(), random(T, B, I)
    flow = gradient_flow(model, inputs)
    assert list(flow) == ["run", "run:2"]
    close(torch.cat(list(flow.values())), only(gradient_flow(model.run, inputs)), 1e-10)


def test_a_recurrence_that_the_loss_does_not_reach_has_zero_flow():
    model = nn.ModuleDict({"one": nn.GRU(I, H), "two": seqcells.GRU(I, H)})
    model.forward = lambda x: model["one"](x)[0] + 0 * model["two"](x)[0].detach()
    flow = gradient_flow(model, random(T, B, I, dtype=torch.float32))
    assert flow["one"].all()
    assert not flow["two"].any()


def test_tiny_norms_do_not_underflow():
    """The squares of these values are zero in float32."""
    recurrent, inputs = Recurrent(GRUCell(I, H)), random(T, B, I, dtype=torch.float32)
    found = only(gradient_flow(recurrent, inputs, loss=lambda result: 1e-30 * result[1].sum()))
    close(1e30 * found, only(gradient_flow(recurrent, inputs)), 1e-5)


PLAIN = Recurrent(make_cell("gru"))
X = random(T, B, I)


@pytest.mark.parametrize(
    ("model", "inputs", "loss", "error", "words"),
    [
        (nn.Linear(I, H), X, None, ValueError, "expected a Recurrent, a layer.*got Linear"),
        (make_cell("gru"), X[0], None, ValueError, "wrap a cell in Recurrent"),
        (len, X, None, TypeError, r"expected a torch.nn.Module, got builtin"),
        (PLAIN, X, lambda result: result[0], ValueError, r"expected a scalar, got shape \(6, 3"),
        (PLAIN, X, lambda result: 1.0, TypeError, "expected a scalar tensor, got float"),
        (PLAIN, X, lambda _: torch.zeros(()), ValueError, "leave out detach"),
        (nn.Sequential(PLAIN), X, None, ValueError, "loss: expected a function .* tuple from"),
        (PLAIN, "text", None, TypeError, "expected a tensor, got str"),
        (PLAIN, X[..., 1:], None, ValueError, "expected 4 features, got 3"),
        (
            Recurrent(wave),
            TOKENS,
            None,
            TypeError,
            "expected floating-point inputs, got torch.int64",
        ),
    ],
)
def test_bad_input_raises(model, inputs, loss, error, words):
    with pytest.raises(error, match=words):
        gradient_flow(model, inputs, loss=loss)


def test_a_model_without_a_recurrent_call_raises():
    idle = nn.ModuleDict({"run": PLAIN})
    idle.forward = lambda inputs: PLAIN.forward(inputs)[0]
    with pytest.raises(ValueError, match="got no such call"):
        gradient_flow(idle, X)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        gradient_flow(PLAIN)
