"""Region embeddings, and classifiers that read their states."""

import numpy as np
import pytest
import torch

from seqcells.lab.export import export_run
from seqcells.lab.model_config import ModelConfig
from seqcells.lab.models.regions import (
    FREQUENT,
    STRIDE,
    RegionModel,
    RegionWords,
    following_words,
    preceding_words,
)
from seqcells.lab.prediction.stream import Stream
from seqcells.lab.text.batches import Batch
from seqcells.lab.text.corpus import make_corpus
from seqcells.lab.training import Config, Run, Trainer, TrainingConfig, command, load_best, task_of
from seqcells.lab.training.checkpoints import load_checkpoint
from seqcells.lab.training.tasks import reviews as review_tasks

WORDS = 12
SIZES = {"embedding_size": 4, "hidden_size": 5, "bidirectional": True}
UNDROPPED = {"dropout": 0.0, "embedding_dropout": 0.0}
REGIONS = """
task: regions
data: {source: imdb, vectors: counted, steps: 16}
model: {cell: gru, embedding_size: 6, hidden_size: 5, bidirectional: true}
training: {epochs: 1, batch_size: 4, threads: 1}
"""
CLASSIFIER = """
data: {source: imdb, max_tokens: 30}
model: {cell: gru, embedding_size: 6, hidden_size: 7, region_size: 5}
training: {epochs: 2, batch_size: 16, threads: 1, regions: regions.yaml, adversarial: 0.5}
"""


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    """Change to a folder with both configurations, and replace IMDB with a small corpus."""
    corpus = make_corpus(train=80, validation=2, test=20)

    def read_imdb(path, *, splits, **_):
        return {split: corpus[split] for split in splits}

    monkeypatch.setattr(review_tasks, "read_imdb", read_imdb)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "regions.yaml").write_text(REGIONS)
    (tmp_path / "classifier.yaml").write_text(CLASSIFIER)


def test_regions_end_with_their_text():
    tokens = torch.tensor([[0, 2, 3, 0, 4, 5, 6]]).T
    assert following_words(tokens, 2)[:, 0].tolist() == [
        [2, 3],
        [3, 0],
        [0, 0],
        [4, 5],
        [5, 6],
        [6, 0],
        [0, 0],
    ]
    assert preceding_words(tokens, 2)[:, 0].tolist() == [
        [0, 0],
        [0, 0],
        [2, 0],
        [3, 2],
        [0, 0],
        [4, 0],
        [5, 4],
    ]


def test_the_loss_is_the_cross_entropy_of_the_words_of_regions():
    torch.manual_seed(0)
    regions = RegionWords(3, WORDS)
    counts = np.array([9, 9, 40_000, 5, 3, 8, 1, 1, 1, 2, 4, 10], dtype=float)
    regions.start(torch.from_numpy(counts))
    torch.nn.init.normal_(regions.vectors.weight)
    hidden, words = torch.randn(2, 3), torch.tensor([[2, 5, 3, 0], [4, 5, 1, 0]])

    counts[:2] = 0
    shares = counts / counts.sum()
    weights = np.minimum(1, np.sqrt(FREQUENT / np.maximum(shares, 1e-30)))
    weights[:2] = 0
    assert weights[2] == pytest.approx(np.sqrt(FREQUENT), rel=1e-3)
    candidates = [2, 3, 4, 5]
    present = 1 - (1 - shares[candidates]) ** (STRIDE * 2)
    vectors = regions.vectors.weight.detach().double().numpy()[candidates]
    biases = np.log(shares * weights + (weights == 0))[candidates]
    expected = 0.0
    for state, found in zip(hidden.double().numpy(), ([2, 5, 3], [4, 5])):
        logits = vectors @ state + biases - np.log(present)
        logs = logits - np.log(np.exp(logits).sum())
        total = sum(weights[word] for word in found)
        expected -= sum(weights[word] / total * logs[candidates.index(word)] for word in found)
    assert regions.loss(hidden, words).item() == pytest.approx(expected, rel=1e-4)
    assert regions.are_known(torch.tensor([[0, 1], [1, 7]])).tolist() == [False, True]


def test_a_region_model_learns_and_counts_its_regions():
    torch.manual_seed(0)
    task = task_of(Config(task="regions", model=ModelConfig(**SIZES, **UNDROPPED)))
    model = RegionModel(task.config.model, WORDS)
    tokens = torch.randint(2, WORDS, (24, 3))
    tokens[0] = 0
    batch = Batch(tokens, torch.tensor([24] * 3), tokens, torch.arange(3), tokens == 0)
    assert task.count(batch) == 3 * (5 + 6)  # the last predicted word has no words after it
    before = {name: part.clone() for name, part in model.named_parameters()}
    optimiser = torch.optim.Adam(model.parameters(), 0.05)
    losses = []
    for _ in range(60):
        loss = task.judge(model, batch).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.85 * losses[0], "texts are random, so words of a region differ little"
    still = [name for name, part in model.named_parameters() if torch.equal(part, before[name])]
    assert not still


@pytest.fixture
def trained(train_main, in_folder):
    assert command(train_main, ["classifier.yaml", "--run=classifier"]) == 0
    return Run.open("classifier"), Run.open("runs/regions/regions")


def test_one_command_trains_both(trained, train_main, monkeypatch, capfd):
    run, regions = trained
    assert run.words.read_bytes() == regions.words.read_bytes()
    fitted = []
    monkeypatch.setattr(Trainer, "fit", lambda trainer, _: fitted.append(trainer.run.folder))
    command(train_main, ["classifier.yaml", "--run=again"])
    assert [str(folder) for folder in fitted] == ["again"], "a finished region model is reused"
    printed = capfd.readouterr().out
    assert "regions: runs/regions/regions\n" in printed
    assert "classifier: again\n" in printed
    assert "starting from region states from runs/regions/regions" in printed


def test_states_are_those_of_the_region_model(trained):
    run, regions = trained
    vocabulary = run.load_vocabulary()
    model, source = load_best(run, vocabulary), load_best(regions, vocabulary)
    tokens, lengths = torch.randint(2, 20, (9, 2)), torch.tensor([9, 6])
    tokens[6:, 1] = 0
    states = model.region_states(tokens, lengths)
    expected, _ = source.recurrent(source.inputs(tokens), lengths=lengths)
    scaled = (expected - model.regions.mean) * model.regions.scale
    assert torch.allclose(states[:, 0], scaled[:, 0], atol=1e-6)
    assert torch.allclose(states[:6, 1], scaled[:6, 1], atol=1e-6)
    assert not states[6:, 1].any()
    vectors = model.vectors(tokens, states)
    assert torch.equal(vectors, torch.cat([model.inputs(tokens), states], -1))
    saved = load_checkpoint(regions.best, regions.config)["model"]
    assert torch.equal(model.regions.words.weight, saved["inputs.words.weight"]), "they are fixed"
    data = task_of(run.config).load(vocabulary)
    rows = [
        model.region_states(batch.inputs, batch.lengths)[:, row][: batch.lengths[row]]
        for batch in data.train.epoch(0)
        for row in range(len(batch.lengths))
    ]
    std, mean = torch.std_mean(torch.cat(rows), 0)
    assert torch.allclose(std, torch.tensor(0.1), atol=1e-4)
    assert mean.abs().max() < 1e-4


def test_models_that_read_word_by_word_refuse_region_states(trained):
    run, _ = trained
    vocabulary = run.load_vocabulary()
    with pytest.raises(ValueError, match="region model, which reads the whole text"):
        Stream(load_best(run, vocabulary), vocabulary)
    for format, stateful in (("onnx", False), ("onnx", True), ("c", False)):
        with pytest.raises(ValueError, match=r"train with model\.region_size 0"):
            export_run(run.folder, format, stateful=stateful)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.region_size=0"], "training.regions: expected a run, or a YAML file, if"),
        (["--training.regions=null"], "training.regions: expected a run, or a YAML file, if"),
        (["--training.start_from=x"], "training.regions: expected null unless task is sentiment"),
        (["--model.region_size=-1"], "model.region_size: expected a number of at least 0, got -1"),
        (["--training.regions=classifier.yaml"], "expected configurations of the task regions"),
        (["--training.regions=nowhere"], "expected the folder of a run, got nowhere"),
        (["--model.region_size=6"], "and 6 units, as in model.cell, model.embedding_size and"),
    ],
)
def test_settings_that_do_not_fit_raise(train_main, in_folder, capfd, arguments, message):
    assert command(train_main, ["classifier.yaml", "--run=wrong", *arguments]) == 2
    assert message in capfd.readouterr().err


def test_a_region_model_needs_a_config_of_streams():
    with pytest.raises(ValueError, match=r"training.label_smoothing: expected 0"):
        Config(task="regions", training=TrainingConfig(label_smoothing=0.1))
