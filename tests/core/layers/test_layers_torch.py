"""Layers replace torch's: weights, names, copies, parametrizations and hooks."""

import copy
import io
import pickle

import pytest
import torch
from cell_table import LAYERS, make_layers
from parity import F64, close, random, same
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from seqcells.testing import assert_parity

T, B, I, H = 5, 3, 4, 5  # noqa: E741
DEEP = {"num_layers": 3, "bidirectional": True}

pytestmark = pytest.mark.parametrize("kind", LAYERS)


def under_one_seed(kind, **options):
    ours, theirs, more = LAYERS[kind]
    made = []
    for layer in (ours, theirs):
        torch.manual_seed(11)
        made.append(layer(I, H, **{"dtype": F64, **more, **options}))
        made.append(torch.rand(3))
    return made


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
def test_initial_weights_and_the_random_state_equal_torchs(kind, bias):
    ours, after_ours, theirs, after_theirs = under_one_seed(kind, bias=bias, **DEEP)
    same(after_ours, after_theirs)
    same(list(ours.parameters()), list(theirs.parameters()))
    for layer in (ours, theirs):
        torch.manual_seed(5)
        layer.reset_parameters()
    same(list(ours.parameters()), list(theirs.parameters()))


@pytest.mark.parametrize("form", ["padded", "batch_first", "packed", "unbatched"])
def test_dropout_under_one_seed_equals_torch(kind, form):
    first = form == "batch_first"
    ours, theirs = make_layers(kind, dropout=0.4, batch_first=first, **DEEP)
    theirs.load_state_dict(ours.state_dict())
    inputs = random(T, B, I)
    if form == "packed":
        inputs = pack_padded_sequence(inputs, [2, 5, 3], enforce_sorted=False)
    if form == "unbatched":
        inputs = inputs[:, 0]
    results, later = [], []
    for layer in (ours, theirs):
        torch.manual_seed(7)
        output, _ = layer(inputs)
        results.append(output.data if isinstance(output, PackedSequence) else output)
        later.append(torch.rand(2))
    close(*results)
    same(*later)
    assert not torch.equal(results[0], ours.eval()(inputs)[0].data)
    assert_parity(ours.eval(), theirs.eval(), inputs)


@pytest.mark.parametrize("dropout", [0.0, 1.0])
def test_dropout_of_zero_and_one_equals_torch(kind, dropout):
    ours, theirs = make_layers(kind, dropout=dropout, num_layers=2)
    assert_parity(ours, theirs, random(T, B, I))


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
def test_names_shapes_and_order_equal_torchs(kind, bias):
    ours, theirs = make_layers(kind, bias=bias, **DEEP)
    expected = [(name, value.shape) for name, value in theirs.named_parameters()]
    assert [(name, value.shape) for name, value in ours.named_parameters()] == expected
    assert [(name, value.shape) for name, value in ours.state_dict().items()] == expected
    for found, wanted in zip(ours.all_weights, theirs.all_weights):
        assert [value.shape for value in found] == [value.shape for value in wanted]
    names = iter(dict(ours.named_parameters()))
    for weights in ours.all_weights:
        for value in weights:
            assert value is getattr(ours, next(names))


@pytest.mark.parametrize("assign", [False, True], ids=["copied", "assigned"])
def test_state_dicts_move_both_ways(kind, assign):
    ours, theirs = make_layers(kind, **DEEP)
    inputs = random(T, B, I)
    theirs.load_state_dict(ours.state_dict(), strict=True, assign=assign)
    close(ours(inputs), theirs(inputs))
    other, _ = make_layers(kind, **DEEP)
    state = {name: value.clone() for name, value in theirs.state_dict().items()}
    other.load_state_dict(state, strict=True, assign=assign)
    same(other(inputs), ours(inputs))
    assert (other.weight_hh_l1_reverse.data_ptr() == state["weight_hh_l1_reverse"].data_ptr()) == (
        assign
    )
    state.pop("weight_ih_l2")
    with pytest.raises(RuntimeError, match="weight_ih_l2"):
        other.load_state_dict(state)


def test_state_dicts_of_a_larger_model_fit(kind):
    ours, theirs = (nn.ModuleDict({"encoder": layer}) for layer in make_layers(kind, **DEEP))
    assert [name for name, _ in ours.named_parameters()] == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict(), strict=True)
    inputs = random(T, B, I)
    close(ours["encoder"](inputs), theirs["encoder"](inputs))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_layers": 2, "bias": False, "batch_first": True},
        {"num_layers": 3, "dropout": 0.25, "bidirectional": True},
    ],
    ids=["plain", "no_bias", "deep"],
)
def test_repr_equals_torchs(kind, options):
    ours, theirs = make_layers(kind, **options)
    assert repr(ours) == repr(theirs)


def test_attributes_equal_torchs(kind):
    ours, theirs = make_layers(kind, dropout=0.5, batch_first=True, **DEEP)
    names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout")
    for name in (*names, "bidirectional", "proj_size", "mode"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.flatten_parameters() is None
    assert isinstance(ours, nn.RNNBase)


def test_positional_arguments_equal_torchs(kind):
    ours, theirs, more = LAYERS[kind]
    style = more.get("nonlinearity", "tanh")
    values = (style,) if kind.startswith("rnn") else ()
    values = (I, H, 2, *values, False, True, 0.5, True)
    assert repr(ours(*values)) == repr(theirs(*values))


def copies(layer):
    yield copy.deepcopy(layer)
    yield pickle.loads(pickle.dumps(layer))
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    yield torch.load(buffer, weights_only=False)


def test_copies_compute_the_same_with_separate_weights(kind):
    ours, _ = make_layers(kind, **DEEP)
    inputs = random(T, B, I)
    for copied in copies(ours):
        same(copied(inputs), ours(inputs))
        assert repr(copied) == repr(ours)
        nn.init.zeros_(copied.weight_ih_l0)
        assert ours.weight_ih_l0.any()


def test_another_dtype_equals_torch(kind):
    ours, theirs = make_layers(kind, dtype=torch.float32, num_layers=2)
    ours, theirs = ours.to(F64), theirs.double()
    assert_parity(ours, theirs, random(T, B, I))


def test_meta_weights_load_from_a_state_dict(kind):
    ours, _ = make_layers(kind, **DEEP)
    blank, _ = make_layers(kind, device="meta", **DEEP)
    assert all(parameter.is_meta for parameter in blank.parameters())
    output, _ = blank(random(T, B, I).to("meta"))
    assert output.is_meta
    blank.to_empty(device="cpu").load_state_dict(ours.state_dict())
    inputs = random(T, B, I)
    same(blank(inputs), ours(inputs))


def train_one_step(layer, inputs):
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(inputs)[0].square().sum().backward()
    optimiser.step()
    return layer(inputs)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize(
    "normalise",
    [nn.utils.weight_norm, parametrizations.weight_norm, parametrizations.orthogonal],
    ids=["old_weight_norm", "weight_norm", "orthogonal"],
)
def test_parametrized_weights_train_as_torchs(kind, normalise):
    ours, theirs = make_layers(kind, num_layers=2)
    theirs.load_state_dict(ours.state_dict())
    for layer in (ours, theirs):
        torch.manual_seed(2)
        normalise(layer, "weight_hh_l0")
    theirs.load_state_dict(ours.state_dict(), strict=True)
    inputs = random(T, B, I)
    close(train_one_step(ours, inputs), train_one_step(theirs, inputs), 1e-11)


def spectral(normalise, pair, names):
    """Normalise the weights of two modules of equal weights, with the same random vectors."""
    for module in pair:
        torch.manual_seed(2)
        for name in names:
            normalise(module, name)


@pytest.mark.filterwarnings("ignore:.*spectral_norm.*is deprecated")
@pytest.mark.parametrize(
    "normalise", [nn.utils.spectral_norm, parametrizations.spectral_norm], ids=["old", "new"]
)
def test_spectral_norm_equals_torchs_in_training(kind, normalise):
    """Each read in training is one step of the power iteration, so the reads must be as many."""
    ours, theirs = make_layers(kind, num_layers=2)
    theirs.load_state_dict(ours.state_dict())
    spectral(normalise, (ours, theirs), ["weight_hh_l0", "weight_ih_l1", "weight_hh_l1"])
    inputs = random(T, B, I)
    for _ in range(3):
        close(train_one_step(ours, inputs), train_one_step(theirs, inputs), 1e-11)
    close(list(ours.buffers()), list(theirs.buffers()), 1e-11)
    close(ours.eval()(inputs), theirs.eval()(inputs), 1e-11)


def test_a_parametrization_is_evaluated_once_per_sequence(kind):
    calls = []

    class Counted(nn.Module):
        def forward(self, weight):
            calls.append(1)
            return weight * 2

    ours, _ = make_layers(kind)
    nn.utils.parametrize.register_parametrization(ours, "weight_hh_l0", Counted(), unsafe=True)
    calls.clear()
    ours(random(50, B, I))
    assert len(calls) == 1


def test_pruned_weights_equal_torchs(kind):
    ours, theirs = make_layers(kind, num_layers=2)
    theirs.load_state_dict(ours.state_dict())
    for layer in (ours, theirs):
        prune.l1_unstructured(layer, "weight_ih_l0", 0.5)
    inputs = random(T, B, I)
    close(ours(inputs), theirs(inputs))
    ours(inputs)[0].sum().backward()
    assert ours.weight_ih_l0_orig.grad[ours.weight_ih_l0_mask == 0].eq(0).all()
    prune.remove(ours, "weight_ih_l0")
    close(ours(inputs), theirs(inputs))


def test_functional_call_and_vmap_over_models_work(kind):
    ours, _ = make_layers(kind, num_layers=2)
    other, _ = make_layers(kind, num_layers=2)
    inputs = random(T, B, I)
    called = torch.func.functional_call(ours, dict(other.named_parameters()), (inputs,))
    same(called, other(inputs))
    stacked, _ = torch.func.stack_module_state([ours, other])
    both = torch.vmap(lambda p: torch.func.functional_call(ours, p, (inputs,))[0])(stacked)
    close(both, torch.stack([ours(inputs)[0], other(inputs)[0]]))


def test_a_replaced_weight_is_used(kind):
    ours, theirs = make_layers(kind)
    for layer in (ours, theirs):
        layer.load_state_dict(theirs.state_dict())
        layer.weight_ih_l0 = nn.Parameter(torch.ones_like(layer.weight_ih_l0))
    inputs = random(T, B, I)
    close(ours(inputs), theirs(inputs))


def test_packed_output_has_the_order_of_the_input(kind):
    ours, theirs = make_layers(kind, bidirectional=True)
    packed = pack_padded_sequence(random(T, B, I), [2, 5, 3], enforce_sorted=False)
    found, expected = ours(packed)[0], theirs(packed)[0]
    assert isinstance(found, PackedSequence)
    for one, other in zip(found[1:], expected[1:]):
        assert torch.equal(one, other)


def test_a_hook_fires_once_per_call(kind):
    ours, seen = make_layers(kind)[0], []
    ours.register_forward_hook(lambda module, args, result: seen.append(args[0].dim()))
    ours(random(T, B, I))
    ours(random(T, I))
    assert seen == [3, 2]


def test_a_subclass_may_wrap_the_call(kind):
    ours, _, more = LAYERS[kind]

    class Doubled(ours):
        def forward(self, input, hx=None):
            output, state = super().forward(input, hx)
            return output * 2, state

    layer = Doubled(I, H, dtype=F64, **more)
    inputs = random(T, B, I)
    close(layer(inputs)[0], 2 * ours.forward(layer, inputs)[0])
