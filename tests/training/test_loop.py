import itertools
import math
import shlex
from dataclasses import replace

import pytest
import torch

from seqcells.lab.training import (
    InterruptedRunError,
    NonFiniteLossError,
    TrainingConfig,
    evaluate,
    parse,
)
from seqcells.lab.training.optimisation import FINAL_RATE, learning_rate


def test_schedule_rises_then_falls():
    config = TrainingConfig(learning_rate=0.1, warmup=0.2, decay="linear")
    rates = [learning_rate(step, 50, config) for step in range(50)]
    assert rates[:10] == pytest.approx([0.01 * (step + 1) for step in range(10)])
    assert rates[10] == pytest.approx(0.1)
    assert rates[-1] == pytest.approx(0.1 * FINAL_RATE)
    steps = [before - after for before, after in itertools.pairwise(rates[10:])]
    assert steps == pytest.approx([steps[0]] * len(steps))


def test_schedule_shapes():
    plain = TrainingConfig(learning_rate=0.1, warmup=0.0, decay="none")
    assert {learning_rate(step, 9, plain) for step in range(9)} == {0.1}
    cosine = TrainingConfig(learning_rate=0.1, warmup=0.0, decay="cosine")
    assert learning_rate(0, 9, cosine) == pytest.approx(0.1)
    assert learning_rate(4, 9, cosine) == pytest.approx(0.1 * (1 + FINAL_RATE) / 2)
    assert learning_rate(8, 9, cosine) == pytest.approx(0.1 * FINAL_RATE)
    assert math.isfinite(learning_rate(0, 1, cosine))


def test_optimiser_follows_the_schedule(make_trainer):
    trainer = make_trainer(epochs=3, warmup=0.5)
    seen = []
    for batch in trainer.data.train.epoch(1):
        trainer.step(batch)
        seen.append(trainer.learner.optimiser.param_groups[0]["lr"])
    total = 3 * len(trainer.data.train)
    assert seen == [learning_rate(step, total, trainer.config) for step in range(len(seen))]


@pytest.mark.parametrize("kind", ["recurrent", "words", "window"])
def test_one_step_updates_every_parameter(kind, make_trainer):
    trainer = make_trainer(model={"kind": kind, "window": 30}, warmup=0.0)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.step(next(trainer.data.train.epoch(1)))
    for name, value in trainer.model.named_parameters():
        assert not torch.equal(value, before[name]), name
    assert torch.equal(trainer.model.inputs.words.weight[0], before["inputs.words.weight"][0])


def test_overfits_one_batch(make_trainer):
    model = {"hidden_size": 16, "embedding_dropout": 0.0, "dropout": 0.0}
    trainer = make_trainer(model=model, learning_rate=0.02, warmup=0.0, decay="none")
    batch = next(trainer.data.train.epoch(1))
    for _ in range(60):
        trainer.progress.sums.batches = 0
        trainer.step(batch)
    logits = trainer.model(batch.inputs, batch.lengths)
    assert torch.equal(logits > 0, batch.labels > 0.5)


def gradients(trainer):
    trainer.step(next(trainer.data.train.epoch(1)))
    return torch.cat([value.grad.flatten() for value in trainer.model.parameters()])


def test_gradients_are_clipped_by_norm_and_value(make_trainer):
    whole = gradients(make_trainer(clip_norm=None))
    norm, largest = whole.norm().item(), whole.abs().max().item()

    by_norm = gradients(make_trainer(clip_norm=norm / 4))
    torch.testing.assert_close(by_norm, whole / 4, rtol=1e-4, atol=1e-8)

    by_value = gradients(make_trainer(clip_norm=None, clip_value=largest / 4))
    assert torch.equal(by_value, whole.clamp(-largest / 4, largest / 4))

    both = gradients(make_trainer(clip_norm=norm / 2, clip_value=largest / 4))
    assert both.norm() < norm / 2
    assert both.abs().max() == pytest.approx(largest / 4)


def test_reported_norm_is_before_clipping(make_trainer):
    trainer = make_trainer(clip_norm=1e-6)
    trainer.step(next(trainer.data.train.epoch(1)))
    assert trainer.progress.sums.norm > 1e-3


def test_label_smoothing(make_trainer):
    trainer = make_trainer(label_smoothing=0.2)
    batch = next(trainer.data.train.epoch(1))
    torch.manual_seed(0)
    trainer.step(batch)
    again = make_trainer()
    torch.manual_seed(0)
    probability = again.model(batch.inputs, batch.lengths).sigmoid()
    targets = torch.where(batch.labels > 0.5, 0.9, 0.1)
    loss = -(targets * probability.log() + (1 - targets) * (1 - probability).log()).mean()
    assert trainer.train_scores()["loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_moving_average_of_weights(make_trainer):
    trainer = make_trainer(average=0.75)
    expected = None
    for number, batch in enumerate(trainer.data.train.epoch(1)):
        trainer.step(batch)
        new = trainer.model.head.weight.detach().clone()
        decay = min(0.75, (1 + number) / (10 + number))
        expected = new if expected is None else decay * expected + (1 - decay) * new
    torch.testing.assert_close(trainer.learner.evaluated_model.head.weight, expected)
    assert not torch.equal(trainer.learner.evaluated_model.head.weight, new)


def test_averaged_model_is_validated_and_saved(make_trainer, monkeypatch):
    trainer = make_trainer(average=0.9, epochs=1)
    seen = []

    def record(_, model, *__):
        seen.append(model.head.weight.clone())
        return {"loss": 0.5, "accuracy": 0.5}

    monkeypatch.setattr("seqcells.lab.training.loop.evaluate", record)
    trainer.fit()
    best = torch.load(trainer.run.best, weights_only=True)["model"]["head.weight"]
    assert torch.equal(best, seen[0])
    assert not torch.equal(best, trainer.model.head.weight)


def stub_validation(monkeypatch, losses):
    """Replace validation with a sequence of losses."""
    remaining = iter(losses)
    monkeypatch.setattr(
        "seqcells.lab.training.loop.evaluate",
        lambda *_: {"loss": next(remaining), "accuracy": 0.5},
    )


def test_early_stopping(make_trainer, monkeypatch):
    trainer = make_trainer(epochs=9, patience=2)
    stub_validation(monkeypatch, [0.7, 0.5, 0.6, 0.55, 0.1])
    progress = trainer.fit()
    assert (progress.epoch, progress.best_epoch, progress.best_loss) == (4, 2, 0.5)
    assert torch.load(trainer.run.best, weights_only=True)["epoch"] == 2


def test_best_model_is_saved(make_trainer, monkeypatch):
    trainer = make_trainer(epochs=3, patience=3)
    stub_validation(monkeypatch, [0.5, 0.6, 0.7])
    trainer.fit()
    best = torch.load(trainer.run.best, weights_only=True)["model"]
    last = torch.load(trainer.run.last, weights_only=True)["model"]
    assert not torch.equal(best["head.weight"], last["head.weight"])


def test_last_model_is_saved_with_keep_last(make_trainer, monkeypatch):
    trainer = make_trainer(epochs=3, patience=1, keep="last")
    stub_validation(monkeypatch, [0.5, 0.6, 0.7])
    progress = trainer.fit()
    assert (progress.epoch, progress.best_epoch, progress.best_loss) == (3, 3, 0.7)
    best, last = (
        torch.load(path, weights_only=True) for path in (trainer.run.best, trainer.run.last)
    )
    assert torch.equal(best["model"]["head.weight"], last["model"]["head.weight"])


def test_accumulated_batches_equal_one_large_batch(make_trainer):
    """Compare four batches of 30 texts with eight batches of 15 in four steps."""
    settings = {"model": {"embedding_dropout": 0.0, "dropout": 0.0}, "clip_norm": None}
    large = make_trainer(batch_size=30, **settings)
    small = make_trainer(batch_size=15, accumulate=2, **settings)
    small.data.train._order = lambda number: [
        half for batch in large.data.train._order(number) for half in (batch[:15], batch[15:])
    ]
    for trainer in (large, small):
        for batch in trainer.data.train.epoch(1):
            trainer.step(batch)
    assert (large.progress.sums.steps, small.progress.sums.steps) == (4, 4)
    for name, value in large.model.state_dict().items():
        torch.testing.assert_close(
            small.model.state_dict()[name], value, msg=name, rtol=0, atol=2e-4
        )
    assert small.train_scores()["loss"] == pytest.approx(large.train_scores()["loss"], rel=1e-3)


def test_last_step_of_an_epoch_accumulates_the_remaining_batches(make_trainer):
    trainer = make_trainer(batch_size=16, accumulate=3)  # eight batches
    before = trainer.model.head.weight.detach().clone()
    updated = []
    for batch in trainer.data.train.epoch(1):
        trainer.step(batch)
        updated.append(not torch.equal(trainer.model.head.weight, before))
        before = trainer.model.head.weight.detach().clone()
    assert updated == [False, False, True, False, False, True, False, True]


def test_interruption_waits_for_the_end_of_a_step(make_trainer, reopen):
    whole = make_trainer(epochs=1, accumulate=3)
    whole.fit()
    broken = make_trainer(epochs=1, accumulate=3)
    calls = iter(range(100))
    with pytest.raises(InterruptedRunError):
        broken.fit(lambda: next(calls) >= 4)
    resumed = reopen(broken.run.folder)
    assert resumed.progress.sums.batches == 6
    resumed.fit()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_bfloat16_is_close_to_float32(make_trainer):
    settings = {"model": {"embedding_dropout": 0.0, "dropout": 0.0, "hidden_size": 16}}
    exact, mixed = (make_trainer(precision=kind, **settings) for kind in ("float32", "bfloat16"))
    batch = next(exact.data.train.epoch(1))
    losses = []
    for trainer in (exact, mixed):
        trainer.step(batch)
        losses.append(trainer.train_scores()["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
    assert losses[0] != losses[1]
    assert {value.dtype for value in mixed.model.parameters()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*is deprecated")
def test_compiled_model_is_close_to_eager(make_trainer):
    settings = {"model": {"embedding_dropout": 0.0, "dropout": 0.0}, "epochs": 1}
    plain, compiled = (make_trainer(compile=choice, **settings) for choice in (False, True))
    for trainer in (plain, compiled):
        trainer.fit()
    first, second = (trainer.progress.history[0] for trainer in (plain, compiled))
    assert first["train_loss"] == pytest.approx(second["train_loss"], rel=1e-4)
    assert first["validation_loss"] == pytest.approx(second["validation_loss"], rel=1e-4)


def test_non_finite_loss_raises_and_keeps_the_checkpoint(make_trainer):
    trainer = make_trainer(epochs=3)
    trainer.save()
    good = trainer.run.last.read_bytes()
    with torch.no_grad():
        trainer.model.head.bias.fill_(torch.nan)
    with pytest.raises(
        NonFiniteLossError, match=r"epoch 1, batch 1: expected a finite loss.*lower"
    ) as raised:
        trainer.fit()
    assert trainer.run.last.read_bytes() == good

    advice = shlex.split(str(raised.value).rpartition("clip_norm: ")[2])
    assert advice[1] == "train.py"
    config, _, resumed = parse(advice[2:])
    lower = replace(trainer.config, learning_rate=trainer.config.learning_rate / 4)
    assert (config.training, config.run, resumed) == (lower, None, None)


def test_non_finite_gradient_does_not_update_the_weights(make_trainer):
    trainer = make_trainer(clip_norm=None)
    trainer.model.head.weight.register_hook(lambda gradient: gradient * torch.inf)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    with pytest.raises(NonFiniteLossError, match="expected a finite gradient norm"):
        trainer.step(next(trainer.data.train.epoch(1)))
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_evaluation_does_not_change_the_model(make_trainer):
    trainer = make_trainer()
    model, batches = trainer.model.train(), trainer.data.validation
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.fill_(1.0)
    scores = evaluate(trainer.task, model, batches)
    assert scores["accuracy"] == 0.5  # half of the texts are positive
    expected = (math.log1p(math.exp(-1.0)) + math.log1p(math.exp(1.0))) / 2
    assert scores["loss"] == pytest.approx(expected, rel=1e-5)
    assert model.training
    assert evaluate(trainer.task, model, batches) == scores


def test_metrics_have_one_line_per_epoch(make_trainer):
    trainer = make_trainer(epochs=2)
    trainer.fit()
    lines = trainer.run.epochs.read_text().splitlines()
    assert len(lines) == 2
    for key in ("train_loss", "validation_accuracy", "gradient_norm", "tokens_per_second"):
        assert f'"{key}"' in lines[0]
