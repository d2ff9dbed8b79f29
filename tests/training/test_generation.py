import itertools

import pytest
import torch

from seqcells.lab.cli import main
from seqcells.lab.model_config import ModelConfig
from seqcells.lab.models.generation import generate
from seqcells.lab.models.inputs import END, UNKNOWN
from seqcells.lab.models.language import LanguageModel
from seqcells.lab.text import streams
from seqcells.lab.text.vocabulary import PADDING, Vocabulary
from seqcells.lab.text.vocabulary import UNKNOWN as UNKNOWN_WORD
from seqcells.lab.training import command

WORDS = 12


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(cell="gru", embedding_size=6, hidden_size=8), WORDS)
    with torch.no_grad():
        model.next.head.weight.mul_(5)
    return model.eval()


def sample(model, count, seed=0, beginning=(3, 4), **settings):
    generator = torch.Generator().manual_seed(seed)
    tokens = generate(model, beginning, generator=generator, **settings)
    return list(itertools.islice(tokens, count))


def log_probabilities_after(model, tokens):
    """Run the model on all tokens from the initial state."""
    (hidden,), _ = model(torch.tensor([END, *tokens]).unsqueeze(1))
    return model.next(hidden[-1])[0]


def test_special_tokens_match_vocabulary_and_streams():
    assert Vocabulary.of_characters(["a"]).words[: UNKNOWN + 1] == [PADDING, UNKNOWN_WORD]
    assert streams.END == END == 0


def test_greedy_decoding_takes_the_most_likely_token(model):
    written = sample(model, 8, temperature=0)
    assert written
    for length, token in enumerate(written):
        log_probabilities = log_probabilities_after(model, [3, 4, *written[:length]])
        log_probabilities[UNKNOWN] = -torch.inf
        assert token == log_probabilities.argmax()
    assert sample(model, 8, temperature=0.7, top_k=1) == written


def test_samples_follow_the_distribution(model):
    with torch.no_grad():
        log_probabilities = log_probabilities_after(model, [3, 4])
    for temperature, top_k in ((1.0, None), (0.5, None), (1.0, 3)):
        expected = (log_probabilities / temperature).index_fill(
            0, torch.tensor([UNKNOWN]), -torch.inf
        )
        if top_k:
            expected[expected < expected.topk(top_k).values[-1]] = -torch.inf
        expected = expected.softmax(0)
        frequencies = torch.zeros(WORDS)
        for seed in range(400):
            first = sample(model, 1, seed, temperature=temperature, top_k=top_k)
            frequencies[first[0] if first else END] += 1 / 400
        torch.testing.assert_close(frequencies, expected, rtol=0, atol=0.1)
        assert frequencies[expected == 0].sum() == 0


def test_seed_determines_the_text(model):
    texts = {tuple(sample(model, 10, seed)) for seed in (1, 1, 2, 3)}
    assert 1 < len(texts) <= 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"temperature": -1}, "temperature: expected"), ({"top_k": 0}, "top_k: expected")],
)
def test_invalid_arguments_raise_before_the_first_token(model, settings, message):
    with pytest.raises(ValueError, match=message):
        generate(model, **settings)


def test_bidirectional_model_raises():
    both = LanguageModel(ModelConfig(cell="gru", bidirectional=True), WORDS)
    with pytest.raises(ValueError, match="unidirectional"):
        generate(both)


CONFIG = """
task: language
data: {unit: UNIT, steps: 20}
model: {cell: gru, embedding_size: 6, hidden_size: 8}
training: {epochs: 1, batch_size: 8, threads: 1}
"""


@pytest.mark.parametrize("unit", ["words", "characters"])
def test_generate_command(unit, train_main, small_corpus, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lm.yaml").write_text(CONFIG.replace("UNIT", unit))
    assert command(train_main, ["lm.yaml", "--run", "runs/lm"]) == 0
    assert "seqcells generate runs/lm" in capfd.readouterr().out
    arguments = ["generate", "runs/lm", "this", "film", "--length", "12"]
    texts = []
    for seed in ("0", "0", "1"):
        assert main([*arguments, "--seed", seed]) == 0
        texts.append(capfd.readouterr().out)
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].startswith("this film")
    assert main(["generate", "runs/lm", "--top-k", "0"]) == 2
    assert "top_k: expected" in capfd.readouterr().err
    assert main(["predict", "runs/lm", "good"]) == 2
    assert (
        "expected a run of a task that answers texts, got one of language" in capfd.readouterr().err
    )


def test_predict_with_a_task_without_texts_raises(train_main, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    arguments = ["--task=adding", "--data.steps=3", "--data.examples=64", "--run=run"]
    arguments += ["--training.epochs=1", "--training.threads=1", "--model.hidden_size=4"]
    assert command(train_main, arguments) == 0
    assert "train.py run/config.yaml --training.seed 1" in capfd.readouterr().out
    assert main(["predict", "run", "what?"]) == 2
    assert "got one of adding" in capfd.readouterr().err
    assert main(["evaluate", "run"]) == 0
    assert capfd.readouterr().out.startswith("test accuracy")


def test_generate_requires_a_language_model(train_main, small_corpus, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    settings = "model: {kind: words, embedding_size: 4}\ntraining: {epochs: 1, threads: 1}\n"
    (tmp_path / "words.yaml").write_text(settings)
    assert command(train_main, ["words.yaml", "--run", "run"]) == 0
    assert main(["generate", "run"]) == 2
    assert "expected a run of the task language" in capfd.readouterr().err
