import copy

import pytest
import torch

import seqcells
from seqcells.lab.model_config import CELLS, MODIFIERS, ModelConfig
from seqcells.lab.models import build_model
from seqcells.lab.models.inputs import MULTIPLIER, PRIME, HashedNgrams

WORDS = 30
LENGTHS = [6, 1, 4, 7]
READOUTS = [["last"], ["max"], ["mean"], ["max", "mean"], ["last", "attention"]]


def make_model(dtype=torch.float64, seed=0, **settings):
    torch.manual_seed(seed)
    config = ModelConfig(**({"embedding_size": 5, "hidden_size": 4, "window": 5} | settings))
    return build_model(config, WORDS).to(dtype)


def make_batch(lengths=LENGTHS, steps=7, seed=1):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor(lengths)
    tokens = torch.randint(2, WORDS, (steps, len(lengths)), generator=generator)
    return tokens.where(torch.arange(steps).unsqueeze(1) < lengths, 0), lengths


every_model = pytest.mark.parametrize(
    "settings",
    [
        *({"readout": readout, "cell": "gru"} for readout in READOUTS),
        {"cell": "lstm", "bidirectional": True, "num_layers": 2, "readout": ["last"]},
        {"cell": "rnn", "bidirectional": True},
        {"backend": "torch", "bidirectional": True},
        *({"cell": cell, "readout": ["last"]} for cell in CELLS),
        {"modifiers": {"zoneout": [0.1, 0.5], "learned_state": True}, "readout": ["last"]},
        {"cell": "min_gru", "num_layers": 2, "bidirectional": True, "modifiers": {"zoneout": 0.2}},
        {"ngrams": 3, "ngram_buckets": 50, "readout": ["max", "attention"]},
        {"ngram_regression": 3, "bidirectional": True},
        {"kind": "pooled", "ngrams": 2, "ngram_buckets": 50, "readout": ["last", "max"]},
        {"kind": "words"},
        {"kind": "window"},
    ],
    ids=str,
)


@every_model
def test_logits_do_not_depend_on_the_batch(settings):
    model = make_model(**settings).eval()
    tokens, lengths = make_batch()
    batched = model(tokens, lengths)
    assert batched.shape == (len(LENGTHS),)
    for row, length in enumerate(LENGTHS):
        alone = model(tokens[:length, row : row + 1], lengths[row : row + 1])
        torch.testing.assert_close(alone, batched[row : row + 1])


@every_model
def test_padding_does_not_change_logits(settings):
    model = make_model(**settings).eval()
    tokens, lengths = make_batch()
    more = torch.cat([tokens, tokens.new_zeros(3, len(LENGTHS))])
    torch.testing.assert_close(model(more, lengths), model(tokens, lengths))
    nonzero_padding = tokens.where(torch.arange(len(tokens)).unsqueeze(1) < lengths, 9)
    torch.testing.assert_close(model(nonzero_padding, lengths), model(tokens, lengths))


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("readout", READOUTS)
def test_readout_equals_a_loop_over_texts(cell, bidirectional, readout):
    model = make_model(cell=cell, bidirectional=bidirectional, readout=readout).eval()
    tokens, lengths = make_batch()
    for row, length in enumerate(LENGTHS):
        outputs, _ = model.recurrent(model.inputs(tokens[:length, row]))
        features = {
            "last": torch.cat([outputs[-1, :4], outputs[0, 4:]]),
            "max": torch.stack([outputs[:, unit].max() for unit in range(outputs.shape[1])]),
            "mean": sum(outputs) / length,
        }
        if "attention" in readout:
            attention = model.readout.attention
            scores = [attention.weight(attention.hidden(output).tanh()) for output in outputs]
            weights = torch.cat(scores).softmax(0)
            features["attention"] = sum(w * output for w, output in zip(weights, outputs))
        logit = model.head(torch.cat([features[name] for name in readout]))
        torch.testing.assert_close(model(tokens, lengths)[row : row + 1], logit)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("readout", [["last"], ["max", "mean"]])
def test_backends_agree_with_dropout(cell, bidirectional, readout):
    settings = {"cell": cell, "bidirectional": bidirectional, "readout": readout}
    settings |= {"embedding_dropout": 0.4, "dropout": 0.5, "recurrent_init": "orthogonal"}
    ours, theirs = (make_model(backend=backend, **settings) for backend in ("seqcells", "torch"))
    assert type(ours.recurrent).__module__.startswith("seqcells")
    assert type(theirs.recurrent).__module__.startswith("torch")
    tokens, lengths = make_batch()
    logits = []
    for model in (ours, theirs):
        torch.manual_seed(5)
        logits.append(model(tokens, lengths))
        logits[-1].square().sum().backward()
    torch.testing.assert_close(*logits, rtol=1e-10, atol=1e-12)
    for (name, own), (other, its) in zip(ours.named_parameters(), theirs.named_parameters()):
        assert name == other
        torch.testing.assert_close(own, its, rtol=0, atol=0, msg=f"weights {name}")
        torch.testing.assert_close(own.grad, its.grad, rtol=1e-9, atol=1e-12, msg=f"grad {name}")


def test_dropout_is_inactive_in_evaluation():
    for setting in ("embedding_dropout", "dropout"):
        model = make_model(**{setting: 0.5})
        tokens, lengths = make_batch()
        assert not torch.equal(model(tokens, lengths), model(tokens, lengths))
        model.eval()
        assert torch.equal(model(tokens, lengths), model(tokens, lengths))


def test_words_average_probabilities_and_ignore_order():
    model = make_model(kind="words").eval()
    tokens, lengths = make_batch()
    for row, length in enumerate(LENGTHS):
        words = tokens[:length, row]
        mean = torch.stack([model.head(model.inputs(word)).sigmoid() for word in words]).mean()
        torch.testing.assert_close(model(tokens, lengths)[row], torch.logit(mean))
    reversed_tokens = tokens[:6, :1].flip(0)
    torch.testing.assert_close(
        model(reversed_tokens, lengths[:1]), model(tokens[:6, :1], lengths[:1])
    )


def test_words_model_is_finite_with_saturated_probabilities():
    model = make_model(kind="words", dtype=torch.float32)
    with torch.no_grad():
        model.head.bias.fill_(200.0)
    tokens, lengths = make_batch()
    logits = model(tokens, lengths)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert (logits > 100).all()
    assert model.head.weight.grad.isfinite().all()


def test_pooled_model_has_the_inputs_of_the_recurrent_model():
    settings = {"ngrams": 2, "ngram_buckets": 40, "readout": ["mean"]}
    pooled = make_model(kind="pooled", **settings).eval()
    recurrent = make_model(**settings).eval()
    recurrent.inputs.load_state_dict(pooled.inputs.state_dict())
    tokens, lengths = make_batch()
    vectors = recurrent.inputs(tokens)
    for row, length in enumerate(LENGTHS):
        logit = pooled.head(vectors[:length, row].mean(0))
        torch.testing.assert_close(pooled(tokens, lengths)[row : row + 1], logit)


def test_ngrams_add_the_vector_of_their_bucket():
    """Compare with Python integers, which do not overflow."""
    ngrams = HashedNgrams(3, 7, 5)
    tokens = torch.tensor([[4], [2**31 - 2], [29_999]])
    vectors = ngrams(tokens)
    words = [0, 0, *tokens[:, 0].tolist()]
    for step in range(3):
        third, second, word = words[step : step + 3]
        pair = (word * MULTIPLIER + second) % PRIME
        triple = (pair * MULTIPLIER + third) % PRIME
        expected = ngrams.vectors.weight[pair % 7] + ngrams.vectors.weight[triple % 7]
        assert torch.equal(vectors[step, 0], expected)


def test_pairs_of_words_spread_over_their_buckets():
    pairs = torch.cartesian_prod(torch.arange(2, 302), torch.arange(2, 302)).T
    buckets = 1 << 12
    ngrams = HashedNgrams(2, buckets, 1)
    with torch.no_grad():
        ngrams.vectors.weight[:, 0] = torch.arange(buckets)
    counts = ngrams(pairs)[1, :, 0].long().bincount(minlength=buckets)
    assert counts.max() < 3 * counts.float().mean()


def test_window_reads_its_words_in_order():
    model = make_model(kind="window", window=3).eval()
    tokens, lengths = make_batch(lengths=[7], steps=7)
    logit = model(tokens, lengths)
    for position in range(7):
        changed = tokens.clone()
        changed[position] = 1
        assert torch.equal(model(changed, lengths), logit) == (position >= 3)
    swapped = tokens[[1, 0, 2, 3, 4, 5, 6]]
    assert not torch.equal(model(swapped, lengths), logit)


def test_configured_initialisation():
    for backend in ("seqcells", "torch"):
        model = make_model(backend=backend, recurrent_init="orthogonal", forget_bias=1.5)
        for gate in model.recurrent.weight_hh_l0.detach().chunk(4):
            product, eye = gate @ gate.T, torch.eye(4, dtype=torch.float64)
            torch.testing.assert_close(product, eye, rtol=0, atol=1e-5)
        bias = (model.recurrent.bias_ih_l0 + model.recurrent.bias_hh_l0).detach().chunk(4)[1]
        torch.testing.assert_close(bias, torch.full_like(bias, 1.5))


def test_depth_and_cells_follow_the_configuration():
    model = make_model(cell="gru", num_layers=3, bidirectional=True, dropout=0.25)
    assert isinstance(model.recurrent, seqcells.GRU)
    assert model.recurrent.num_layers == 3
    assert model.recurrent.bidirectional
    assert model.recurrent.dropout == 0.25
    assert copy.deepcopy(model).state_dict().keys() == model.state_dict().keys()


def test_every_cell_and_modifier_is_configurable():
    for known, base in ((CELLS, seqcells.GatedCell), (MODIFIERS, seqcells.modifiers.Modifier)):
        public = {getattr(seqcells, name) for name in seqcells.__all__}
        classes = {kind for kind in public if isinstance(kind, type) and issubclass(kind, base)}
        assert set(known.values()) == classes - {seqcells.GatedCell, seqcells.LinearCell}


def test_a_stack_of_modified_cells():
    """The final state is that of both directions of the last layer."""
    modifiers = {"learned_state": True, "drop_connect": 0.5}
    settings = {"cell": "lstm", "num_layers": 2, "bidirectional": True, "dropout": 0.3}
    model = make_model(modifiers=modifiers, readout=["last"], **settings).eval()
    assert isinstance(model.recurrent, seqcells.Stack)
    assert model.recurrent.dropout == 0.3
    forward, backward = (run.cell for run in model.recurrent.layers[1])
    assert isinstance(forward, seqcells.DropConnect)
    assert isinstance(forward.cell, seqcells.LearnedState)
    assert (forward.share, forward.input_size, backward.hidden_size) == (0.5, 8, 4)
    tokens, lengths = make_batch()
    outputs, final = model.recur(model.inputs(tokens), lengths)
    for row, length in enumerate(LENGTHS):
        ends = torch.cat([outputs[length - 1, row, :4], outputs[0, row, 4:]])
        torch.testing.assert_close(final[row], ends)


@pytest.mark.parametrize("name", [name for name in MODIFIERS if name != "learned_state"])
def test_modifiers_are_inactive_in_evaluation(name):
    model, (tokens, lengths) = make_model(modifiers={name: 0.5}), make_batch()
    assert not torch.equal(model(tokens, lengths), model(tokens, lengths))
    torch.manual_seed(3)
    first = model(tokens, lengths)
    torch.manual_seed(3)
    assert torch.equal(model(tokens, lengths), first)
    model.eval()
    assert torch.equal(model(tokens, lengths), model(tokens, lengths))


def test_disabled_modifier_does_not_wrap_the_cell():
    model = make_model(modifiers={"learned_state": False})
    assert isinstance(model.recurrent.layers[0].cell, seqcells.LSTMCell)
