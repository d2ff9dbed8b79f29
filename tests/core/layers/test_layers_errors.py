"""Bad input to layers raises an error that says what was expected and what was given."""

import pytest
import torch
from cell_table import make_layers
from parity import F64, random
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import seqcells

T, B, I, H = 5, 3, 4, 5  # noqa: E741
KINDS = pytest.mark.parametrize("kind", ["rnn_tanh", "gru", "lstm"])


def refuses(error, words, call, *args, **options):
    with pytest.raises(error, match=words) as caught:
        call(*args, **options)
    assert "expected" in str(caught.value)


@pytest.mark.parametrize("make", [seqcells.RNN, seqcells.GRU, seqcells.LSTM])
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"hidden_size": 0}, ValueError, "hidden_size.*0"),
        ({"hidden_size": -2}, ValueError, "hidden_size.*-2"),
        ({"hidden_size": 2.5}, TypeError, "hidden_size.*float"),
        ({"hidden_size": True}, TypeError, "hidden_size.*bool"),
        ({"input_size": 0}, ValueError, "input_size.*0"),
        ({"num_layers": 0}, ValueError, "num_layers.*0"),
        ({"dropout": 1.5, "num_layers": 2}, ValueError, r"dropout.*1\.5"),
        ({"dropout": -0.1, "num_layers": 2}, ValueError, r"dropout.*-0\.1"),
        ({"proj_size": -1}, ValueError, "proj_size.*-1"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bad_sizes_raise(make, options, error, words):
    refuses(error, words, make, **{"input_size": I, "hidden_size": H, **options})


def test_a_bad_projection_raises():
    for size in (H, H + 1):
        refuses(ValueError, f"proj_size.*{size}", seqcells.LSTM, I, H, proj_size=size)
    for make in (seqcells.RNN, seqcells.GRU):
        refuses(ValueError, "proj_size.*LSTM", make, I, H, proj_size=2)


@pytest.mark.parametrize("nonlinearity", ["sigmoid", "", "TANH", None, torch.tanh])
def test_a_bad_nonlinearity_raises(nonlinearity):
    refuses(ValueError, "nonlinearity.*got", seqcells.RNN, I, H, nonlinearity=nonlinearity)


def test_an_unknown_option_raises():
    with pytest.raises(TypeError, match="hiden_size"):
        seqcells.GRU(I, H, hiden_size=3)


def test_dropout_of_one_layer_warns_as_torch_does():
    messages = []
    for make in (seqcells.LSTM, nn.LSTM):
        with pytest.warns(UserWarning, match="dropout") as caught:
            make(I, H, dropout=0.5)
        messages.append(len(caught))
    assert messages == [1, 1]


@KINDS
@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (random(I), r"got shape \(4,\)"),
        (random(2, T, B, I), r"got shape \(2, 5, 3, 4\)"),
        (random(T, B, I + 1), r"4 features, got 5 in shape \(5, 3, 5\)"),
        (random(T, I + 1), r"4 features, got 5 in shape \(5, 5\)"),
        (random(T, B, I).float(), "torch.float64.*torch.float32"),
        (torch.ones(T, B, I, dtype=torch.int64), "torch.float64.*torch.int64"),
        (pack_padded_sequence(random(T, B, I + 1), [5, 3, 2]), "4 features, got 5 in shape"),
        (pack_padded_sequence(random(T, B, I).float(), [5, 3, 2]), "float64.*float32"),
    ],
    ids=["rank_1", "rank_4", "features", "features_2d", "dtype", "int", "packed", "packed_dtype"],
)
def test_inputs_of_wrong_shape_or_dtype_raise(kind, inputs, words):
    refuses(ValueError, words, make_layers(kind)[0], inputs)


@KINDS
@pytest.mark.parametrize("inputs", [None, [[1.0]], "text"], ids=["none", "list", "text"])
def test_inputs_that_are_not_tensors_raise(kind, inputs):
    refuses(TypeError, "input.* got", make_layers(kind)[0], inputs)


@pytest.mark.parametrize(
    ("kind", "hx", "error", "words"),
    [
        ("gru", random(1, B, H), ValueError, r"expected shape \(4, 3, 5\), got \(1, 3, 5\)"),
        ("gru", random(4, B + 1, H), ValueError, r"got \(4, 4, 5\)"),
        ("gru", random(4, B, H - 1), ValueError, r"got \(4, 3, 4\)"),
        ("gru", random(4, H), ValueError, r"got \(4, 5\)"),
        ("gru", random(4, B, H).float(), ValueError, "float64.*float32"),
        ("gru", (random(4, B, H), random(4, B, H)), TypeError, "got tuple"),
        ("lstm", random(4, B, H), TypeError, "2.*got Tensor"),
        ("lstm", (random(4, B, H),), ValueError, "2.*got 1"),
        ("lstm", (random(4, B, H),) * 3, ValueError, "2.*got 3"),
        ("lstm", (random(4, B, H), random(4, B, 3)), ValueError, r"cell.*got \(4, 3, 3\)"),
        ("lstm", (random(4, B, H), None), TypeError, "cell.*got NoneType"),
        ("lstm_proj", (random(4, B, H), random(4, B, H)), ValueError, r"\(4, 3, 3\), got"),
    ],
)
@pytest.mark.parametrize("form", ["padded", "packed"])
def test_bad_states_raise(kind, hx, error, words, form):
    ours, _ = make_layers(kind, num_layers=2, bidirectional=True)
    inputs = random(T, B, I)
    if form == "packed":
        inputs = pack_padded_sequence(inputs, [2, 5, 3], enforce_sorted=False)
    refuses(error, words, ours, inputs, hx)


def test_bad_states_without_a_batch_raise():
    ours, _ = make_layers("lstm")
    refuses(ValueError, "got", ours, random(T, I), (random(1, B, H), random(1, B, H)))
    refuses(TypeError, "got", ours, random(T, I), random(1, H))


BAD_LENGTHS = [
    ([5, 3], ValueError, "2"),
    ([5, 3, 2, 1], ValueError, "4"),
    ([5, 3, 6], ValueError, "from 0 to 5.*got 6"),
    ([5, 3, -1], ValueError, "from 0 to 5.*got -1"),
    ([5, 3, 2.0], TypeError, "whole numbers.*float"),
    ([True, False, True], TypeError, "whole numbers.*bool"),
    (torch.tensor([5.0, 3.0, 2.0]), TypeError, "whole numbers.*float"),
    (torch.tensor([True, True, True]), TypeError, "whole numbers.*bool"),
    (torch.tensor([[5, 3, 2]]), ValueError, r"\(1, 3\)"),
    (torch.tensor(5), ValueError, r"\(\)"),
    (5, TypeError, "5"),
    ("532", TypeError, "532"),
]


@pytest.mark.parametrize(("lengths", "error", "words"), BAD_LENGTHS, ids=str)
def test_bad_lengths_raise(lengths, error, words):
    ours, _ = make_layers("gru")
    refuses(error, words, ours, random(T, B, I), lengths=lengths)
    recurrent = seqcells.Recurrent(seqcells.GRUCell(I, H, dtype=F64))
    refuses(error, words, recurrent, random(T, B, I), lengths=lengths)


@pytest.mark.parametrize(
    ("resets", "error", "words"),
    [
        (torch.zeros(T, B), TypeError, "bool.*float"),
        (torch.zeros(T, B, dtype=torch.int64), TypeError, "bool.*int64"),
        ([[False] * B] * T, TypeError, "bool.*list"),
        (torch.zeros(B, T, dtype=torch.bool), ValueError, r"got .*\(3, 5\)"),
        (torch.zeros(T, dtype=torch.bool), ValueError, r"got .*\(5,\)"),
    ],
    ids=["float", "int", "list", "transposed", "rank"],
)
def test_bad_resets_raise(resets, error, words):
    ours, _ = make_layers("gru")
    refuses(error, words, ours, random(T, B, I), resets=resets)
    recurrent = seqcells.Recurrent(seqcells.GRUCell(I, H, dtype=F64))
    refuses(error, words, recurrent, random(T, B, I), resets=resets)


@pytest.mark.parametrize("batch_first", [False, True])
def test_resets_of_a_wrong_rank_raise_in_any_layout(batch_first):
    ours, _ = make_layers("gru", batch_first=batch_first)
    for shape in ((), (T,), (B, T, 1)):
        bad = torch.zeros(shape, dtype=torch.bool)
        inputs = random(B, T, I) if batch_first else random(T, B, I)
        refuses(ValueError, "resets.*got", ours, inputs, resets=bad)
        refuses(ValueError, "resets.*got", ours, random(T, I), resets=bad[..., None])


def test_packed_input_with_lengths_or_resets_raises():
    ours, _ = make_layers("gru")
    packed = pack_padded_sequence(random(T, B, I), [5, 3, 2])
    resets = torch.zeros(T, B, dtype=torch.bool)
    refuses(ValueError, "PackedSequence", ours, packed, lengths=[5, 3, 2])
    refuses(ValueError, "PackedSequence", ours, packed, resets=resets)


def test_lengths_without_a_batch_raise():
    ours, _ = make_layers("gru")
    refuses(ValueError, "without a batch", ours, random(T, I), lengths=[3])
