import math

import pytest
import torch

from seqcells.lab.model_config import ModelConfig
from seqcells.lab.models.language import LanguageModel, NextToken
from seqcells.lab.text.batches import IGNORED
from seqcells.lab.text.streams import TextStreams
from seqcells.lab.training import (
    Config,
    DataConfig,
    InterruptedRunError,
    Run,
    TrainingConfig,
    command,
    task_of,
)

WORDS = 20
TEXTS = [[3, 4, 5, 6, 7, 8, 9], [10, 11], [12, 13, 14, 15, 16, 17, 18, 19, 3, 5], [4]]


def make_model(**settings):
    torch.manual_seed(0)
    config = ModelConfig(**({"cell": "lstm", "embedding_size": 5, "hidden_size": 4} | settings))
    return LanguageModel(config, WORDS).double().eval()


def make_task(**settings):
    return task_of(Config(task="language", model=ModelConfig(**settings)))


def total_loss(task, model, streams):
    loss, count, state = 0.0, 0, None
    for batch in streams.epoch(0):
        judgement = task.judge(model, batch, state)
        state = judgement.state
        loss, count = loss + judgement.loss.item(), count + task.count(batch)
    return loss, count


@pytest.mark.parametrize("settings", [{}, {"cell": "gru", "num_layers": 2}, {"cell": "mgu"}])
def test_state_carries_over_between_windows(settings):
    model, task = make_model(**settings), make_task(**settings)
    whole, windows = (TextStreams(TEXTS, batch_size=2, steps=steps, seed=0) for steps in (99, 3))
    assert len(windows) > 3
    assert total_loss(task, model, windows) == pytest.approx(total_loss(task, model, whole))


@torch.no_grad()
def test_loss_equals_the_negative_log_likelihood():
    """Compare with the probabilities of the words of each text from the initial state."""
    model, task = make_model(), make_task()
    streams = TextStreams(TEXTS, batch_size=1, steps=4, seed=0)
    expected = 0.0
    for text in TEXTS:
        tokens = torch.tensor([0, *text]).unsqueeze(1)
        (hidden,), _ = model(tokens)
        probabilities = model.next(hidden[:, 0]).exp()
        for step, token in enumerate([*text, 0]):
            expected -= math.log(probabilities[step, token])
    assert total_loss(task, model, streams) == pytest.approx((expected, sum(map(len, TEXTS)) + 4))


def test_directions_do_not_see_their_labels():
    model = make_model(bidirectional=True)
    tokens = torch.tensor([0, 3, 4, 5, 6, 7]).unsqueeze(1)
    other = tokens.clone()
    other[3] = 9
    (forward, backward), _ = model(tokens)
    (forward_other, backward_other), _ = model(other)
    assert torch.equal(forward[:3], forward_other[:3])
    assert not torch.equal(forward[3], forward_other[3])
    assert torch.equal(backward[4:], backward_other[4:])
    assert not torch.equal(backward[3], backward_other[3])


def test_backward_direction_predicts_the_previous_token():
    task = make_task(bidirectional=True)
    model = make_model(bidirectional=True)
    (batch,) = TextStreams([[3, 4, 5], [6]], batch_size=1, steps=9, seed=0, shuffle=False).epoch(0)
    (forward, backward), _ = model(batch.inputs, None, batch.resets)
    ahead, behind = model.next(forward[:, 0]), model.next(backward[:, 0])
    expected = -sum(ahead[step, token] for step, token in enumerate([3, 4, 5, 0, 6, 0]))
    expected -= sum(behind[step, token] for step, token in ((1, 0), (2, 3), (3, 4), (5, 0)))
    judgement = task.judge(model, batch)
    assert task.count(batch) == 10
    torch.testing.assert_close(judgement.loss, expected)


def test_backward_direction_starts_from_zero_in_every_window():
    model = make_model(bidirectional=True)
    first, second = torch.tensor([[0], [3], [4]]), torch.tensor([[5], [6]])
    _, state = model(first)
    (forward, backward), _ = model(second, state)
    (stateless_forward, stateless_backward), _ = model(second)
    assert torch.equal(backward, stateless_backward)
    assert not torch.equal(forward, stateless_forward)


@pytest.mark.parametrize("vocabulary", [50, 6000, 12_000])
def test_losses_equal_negative_log_probabilities(vocabulary):
    torch.manual_seed(0)
    head = NextToken(20, vocabulary).double()
    hidden, labels = torch.randn(40, 20).double(), torch.randint(vocabulary, (40,))
    probabilities = head(hidden).exp()
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(40).double())
    losses = head.losses(hidden, labels)
    torch.testing.assert_close(losses, -probabilities[torch.arange(40), labels].log())


@pytest.mark.parametrize("vocabulary", [50, 6000, 12_000])
def test_loss_is_equal_without_reading_labels(vocabulary, monkeypatch):
    torch.manual_seed(0)
    head = NextToken(20, vocabulary).double()
    hidden, labels = torch.randn(5, 8, 20).double(), torch.randint(vocabulary, (5, 8))
    labels[3:, 2:] = IGNORED
    readable_loss = head.loss(hidden, labels, IGNORED)
    monkeypatch.setattr("seqcells.lab.models.language.is_host_readable", lambda _: False)
    torch.testing.assert_close(head.loss(hidden, labels, IGNORED), readable_loss)
    counted = labels != IGNORED
    torch.testing.assert_close(readable_loss, head.losses(hidden[counted], labels[counted]).sum())
    assert head.to("meta").loss(hidden.to("meta"), labels.to("meta"), IGNORED).is_meta


@pytest.fixture
def language_config(tmp_path, small_corpus):
    def make(unit="characters", cell="lstm", **training):
        return Config(
            task="language",
            data=DataConfig(unit=unit, steps=20),
            model=ModelConfig(cell=cell, embedding_size=6, hidden_size=5, dropout=0.2),
            training=TrainingConfig(**({"epochs": 2, "batch_size": 8, "threads": 1} | training)),
        )

    return make


def trainer_of(prepare_run, config, folder):
    run = Run.create(Config(config.task, config.data, config.model, config.training, folder), "x")
    return prepare_run(run)


@pytest.mark.parametrize(
    ("unit", "cell"), [("characters", "lstm"), ("words", "gru"), ("words", "coupled_lstm")]
)
def test_interrupted_language_model_resumes_from_its_state(
    unit, cell, language_config, prepare_run, reopen, tmp_path
):
    config = language_config(unit, cell)
    whole = trainer_of(prepare_run, config, str(tmp_path / "whole"))
    whole.fit()
    broken = trainer_of(prepare_run, config, str(tmp_path / "broken"))
    calls = iter(range(1000))
    with pytest.raises(InterruptedRunError):
        broken.fit(lambda: next(calls) >= 5)
    assert broken.learner.state is not None
    resumed = reopen(broken.run.folder)
    resumed.fit()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    losses = [epoch["validation_perplexity"] for epoch in whole.progress.history]
    assert losses == [epoch["validation_perplexity"] for epoch in resumed.progress.history]
    assert losses[0] == pytest.approx(math.exp(whole.progress.history[0]["validation_loss"]))


def test_each_epoch_starts_without_a_state(prepare_run, language_config, tmp_path, monkeypatch):
    trainer = trainer_of(prepare_run, language_config("words", "lstm"), str(tmp_path / "run"))
    step, starts = trainer.step, []

    def record(batch):
        sums = trainer.progress.sums
        starts.append((sums.batches == 0, trainer.learner.state is None))
        step(batch)

    monkeypatch.setattr(trainer, "step", record)
    trainer.fit()
    assert [first for first, _ in starts].count(True) == trainer.config.epochs > 1
    assert all(first == fresh for first, fresh in starts)


def test_classifier_starts_from_a_language_model(
    train_main, small_corpus, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    sizes = "model: {cell: gru, embedding_size: 6, hidden_size: 5, bidirectional: true}\n"
    training = "training: {epochs: 1, batch_size: 16, threads: 1"
    (tmp_path / "language.yaml").write_text(f"task: language\n{sizes}{training}}}\n")
    text = f"{sizes}{training}, start_from: runs/lm, learning_rate: 1.0e-12}}\n"
    (tmp_path / "classifier.yaml").write_text(text)
    assert command(train_main, ["language.yaml", "--run", "runs/lm"]) == 0
    assert "test perplexity" in capfd.readouterr().out
    assert command(train_main, ["classifier.yaml", "--run", "runs/fine"]) == 0
    assert "starting from words and recurrence from runs/lm" in capfd.readouterr().out
    one, other = (torch.load(f"runs/{name}/best.pt")["model"] for name in ("lm", "fine"))
    for name in other:
        if not name.startswith("head."):
            torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-6)
    words = [(tmp_path / f"runs/{name}/vocabulary.json").read_text() for name in ("lm", "fine")]
    assert words[0] == words[1]
    arguments = ["classifier.yaml", "--model.hidden_size", "7", "--run", "runs/wrong"]
    assert command(train_main, arguments) == 2
    assert "training.start_from: expected recurrent.weight_ih_l0" in capfd.readouterr().err


def test_ignored_labels_are_not_counted():
    (batch,) = TextStreams([[3, 4]], batch_size=2, steps=9, seed=0).epoch(0)
    assert (batch.labels == IGNORED).sum() == 1
    assert make_task().count(batch) == 3
