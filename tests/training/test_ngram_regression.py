"""A recurrent classifier combined with a regression on n-grams."""

import pytest
import torch

import seqcells
from seqcells.lab.export import export_run
from seqcells.lab.model_config import ModelConfig
from seqcells.lab.models import build_model
from seqcells.lab.models.ngram_regression import BUCKETS, NgramRegression
from seqcells.lab.text.corpus import make_corpus
from seqcells.lab.training import Config, Run, command
from seqcells.lab.training.initialisation import fit_ngram_regression

WORDS = 9
TEXTS = [[2, 3, 2, 3, 4], [5], [4, 4, 4]]
CONFIG = """
data: {max_tokens: 30}
model: {cell: gru, embedding_size: 6, hidden_size: 5, ngram_regression: 2}
training: {epochs: 1, batch_size: 16, threads: 1}
"""


def logit_of(regression, text):
    """Return the logit of a text from the hash of each of its distinct n-grams."""
    found = {(word,): word for word in text}
    for end in range(1, len(text)):
        number = text[end]
        for back in range(1, min(regression.longest, end + 1)):
            number = (number * 1_000_003 + text[end - back]) % (2**31 - 1)
            found[tuple(text[end - back : end + 1])] = WORDS + number % BUCKETS
    return regression.bias + sum(regression.weights[column] for column in found.values())


def batch_of(texts):
    steps = max(map(len, texts))
    tokens = torch.tensor([[*text, *[0] * (steps - len(text))] for text in texts]).T
    return tokens, torch.tensor([len(text) for text in texts])


@pytest.mark.parametrize("longest", [1, 2, 3])
def test_logit_is_the_sum_over_distinct_ngrams(longest):
    regression = NgramRegression(longest, WORDS)
    torch.nn.init.normal_(regression.weights[1:])
    torch.nn.init.constant_(regression.bias, 0.5)
    expected = torch.stack([logit_of(regression, text) for text in TEXTS])
    torch.testing.assert_close(regression(*batch_of(TEXTS)), expected)


def test_fitted_regression_separates_its_texts():
    texts = [[2, 3], [2, 4], [3, 2, 4], [3, 2, 2]]  # the pair (3, 2) is negative
    regression = NgramRegression(2, WORDS)
    source = fit_ngram_regression(regression, texts, [1, 1, 0, 0])
    assert source == "a regression on n-grams of up to 2 words in 4 texts"
    assert regression.weights[0] == 0
    assert ((regression(*batch_of(texts)) > 0).int().tolist()) == [1, 1, 0, 0]


def test_texts_with_predicted_labels_weigh_less():
    def weight(*labels):
        regression = NgramRegression(1, WORDS)
        fit_ngram_regression(regression, [[2], [3], [4]], [1, 0, *labels])
        return regression.weights[4].item()

    assert weight(1) > 2 * weight(1.0) > 4 * weight(0.6) > 0
    assert weight(0.0) == pytest.approx(-weight(1.0), rel=1e-3)
    assert weight(0.5) == pytest.approx(0, abs=1e-6)


def test_mean_of_both_logits_outside_training():
    torch.manual_seed(0)
    settings = {"embedding_size": 5, "hidden_size": 4}
    combined = build_model(ModelConfig(**settings, ngram_regression=2), WORDS)
    torch.nn.init.normal_(combined.regression.weights[1:])
    network = build_model(ModelConfig(**settings), WORDS)
    network.load_state_dict(combined.state_dict(), strict=False)
    batch = batch_of(TEXTS)
    torch.testing.assert_close(combined(*batch), network(*batch))  # in training
    expected = (network(*batch) + combined.regression(*batch)) / 2
    torch.testing.assert_close(combined.eval()(*batch), expected)


@pytest.fixture
def run(train_main, small_corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "combined.yaml").write_text(CONFIG)
    assert command(train_main, ["combined.yaml", "--run=run"]) == 0
    return Run.open("run")


def test_training_fits_the_regression_before_and_keeps_it(run):
    classifier = seqcells.load("run")
    trained = classifier.model.regression
    fitted = NgramRegression(2, len(classifier.vocabulary))
    reviews = make_corpus(train=120, validation=40, test=60)["train"]
    texts = [classifier.encode(review.text) for review in reviews]
    fit_ngram_regression(fitted, texts, [review.label for review in reviews])
    torch.testing.assert_close(trained.weights, fitted.weights)
    torch.testing.assert_close(trained.bias, fitted.bias)
    assert trained.weights.any()


def test_uses_of_a_trained_run(run):
    classifier = seqcells.load("run")
    texts = ["it is good , not bad .", "bad"]
    probabilities = classifier.predict(texts)
    program = torch.export.load(export_run("run", "torch-export")).module()
    tokens, lengths = batch_of([classifier.encode(text) for text in texts])
    torch.testing.assert_close(program(tokens, lengths).sigmoid(), probabilities)
    with pytest.raises(ValueError, match=r"model\.ngram_regression 0"):
        classifier.stream()
    with pytest.raises(ValueError, match="got CombinedClassifier; use torch-export or safetensors"):
        export_run("run", "onnx")


@pytest.mark.parametrize(
    ("task", "model", "message"),
    [
        ("sentiment", {"ngram_regression": -1}, "expected 0, or a number of words"),
        ("sentiment", {"kind": "pooled", "ngram_regression": 2}, "model.kind is recurrent, got 2"),
        ("capitals", {"ngram_regression": 2}, "the task capitals does not support it"),
    ],
)
def test_invalid_settings_raise(task, model, message):
    with pytest.raises(ValueError, match=f"model.ngram_regression: .*{message}"):
        Config(task=task, model=ModelConfig(**model))
