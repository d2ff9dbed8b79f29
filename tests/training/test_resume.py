import pytest
import torch

from seqcells.lab.training import Config, InterruptedRunError, ModelConfig, Run
from seqcells.lab.training.checkpoints import load_checkpoint, save_checkpoint, write_atomically
from seqcells.lab.training.config import TrainingConfig


def weights(trainer):
    return dict(trainer.model.state_dict())


def interrupt_after(count):
    calls = iter(range(10**6))
    return lambda: next(calls) >= count


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.fixture
def unbroken(make_trainer):
    trainer = make_trainer(epochs=2)
    trainer.fit()
    return trainer


# An epoch calls `interrupted` nine times: for 8 training batches and one validation batch.
@pytest.mark.parametrize("count", [0, 1, 5, 8, 9, 12, 17])
def test_interrupted_run_equals_an_uninterrupted_run(count, unbroken, make_trainer, reopen):
    broken = make_trainer(epochs=2)
    with pytest.raises(InterruptedRunError, match=rf"train.py --resume {broken.run.folder}"):
        broken.fit(interrupt_after(count))
    resumed = reopen(broken.run.folder)
    resumed.fit()
    assert_same(weights(resumed), weights(unbroken))
    for name in ("best.pt", "last.pt"):
        first, second = (
            torch.load(trainer.run.folder / name, weights_only=True)
            for trainer in (resumed, unbroken)
        )
        assert_same(first["model"], second["model"])
    timeless = ["epoch", "train_loss", "train_accuracy", "validation_loss", "gradient_norm"]
    for own, other in zip(resumed.progress.history, unbroken.progress.history, strict=True):
        assert [own[key] for key in timeless] == [other[key] for key in timeless]
    assert len(resumed.run.epochs.read_text().splitlines()) == 2


def test_averaged_weights_resume(make_trainer, reopen):
    unbroken = make_trainer(epochs=1, average=0.9)
    unbroken.fit()
    broken = make_trainer(epochs=1, average=0.9)
    with pytest.raises(InterruptedRunError):
        broken.fit(interrupt_after(5))
    resumed = reopen(broken.run.folder)
    resumed.fit()
    assert_same(
        dict(resumed.learner.evaluated_model.state_dict()),
        dict(unbroken.learner.evaluated_model.state_dict()),
    )


def test_masks_of_modifiers_resume(make_trainer, reopen):
    modifiers = {"zoneout": [0.1, 0.3], "drop_connect": 0.2, "learned_state": True}
    unbroken = make_trainer(epochs=1, model={"modifiers": modifiers})
    unbroken.fit()
    broken = make_trainer(epochs=1, model={"modifiers": modifiers})
    with pytest.raises(InterruptedRunError):
        broken.fit(interrupt_after(4))
    resumed = reopen(broken.run.folder)
    assert resumed.run.config.model.modifiers == modifiers
    resumed.fit()
    assert_same(weights(resumed), weights(unbroken))


def test_resume_after_a_kill_within_an_epoch(unbroken, make_trainer, reopen):
    """The last checkpoint within the epoch is enough to resume exactly."""
    broken = make_trainer(epochs=2, save_seconds=1e-9)
    steps = iter(range(11))
    step = broken.step

    def fail(batch):
        next(steps)  # raises StopIteration after 11 batches, without saving
        step(batch)

    broken.step = fail
    with pytest.raises(StopIteration):
        broken.fit()
    resumed = reopen(broken.run.folder)
    assert (resumed.progress.epoch, resumed.progress.sums.batches) == (2, 3)
    resumed.fit()
    assert_same(weights(resumed), weights(unbroken))


def test_seed_changes_the_weights(unbroken, make_trainer):
    other = make_trainer(epochs=2, seed=1)
    other.fit()
    assert not torch.equal(weights(other)["head.weight"], weights(unbroken)["head.weight"])


def test_failed_write_keeps_the_previous_file(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, Config(), {"epoch": 1})

    def fail(file):
        file.write(b"incomplete")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_atomically(path, fail)
    assert load_checkpoint(path, Config())["epoch"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_checkpoint_of_another_configuration_raises(tmp_path):
    path = tmp_path / "best.pt"
    save_checkpoint(path, Config(), {"epoch": 1})
    other = Config(model=ModelConfig(hidden_size=7))
    with pytest.raises(ValueError, match=r"model.hidden_size: expected 128.*got 7"):
        load_checkpoint(path, other)
    content = torch.load(path, weights_only=True)
    del content["config"]["training.keep"]  # as in a version without this setting
    torch.save(content, path)
    assert load_checkpoint(path, Config())["epoch"] == 1
    moved = Config(run="elsewhere")
    assert load_checkpoint(path, moved)["epoch"] == 1


@pytest.mark.parametrize("damage", [b"", b"rubbish", "cut", "pickle"])
def test_damaged_checkpoint_raises(damage, tmp_path):
    path = tmp_path / "best.pt"
    save_checkpoint(path, Config(), {"weights": torch.zeros(1000)})
    if damage == "cut":
        damage = path.read_bytes()[:2000]
    if damage == "pickle":
        torch.save({"code": print}, path)
    else:
        path.write_bytes(damage)
    with pytest.raises(ValueError, match=r"expected a .*checkpoint, got .*best.pt") as raised:
        load_checkpoint(path, Config())
    assert "weights_only" not in str(raised.value)


def test_resuming_with_another_configuration_raises(make_trainer):
    trainer = make_trainer()
    trainer.save()
    config = trainer.run.config
    assert Run.resume(trainer.run.folder, config).config == config
    other = Config("sentiment", config.data, config.model, TrainingConfig(batch_size=17))
    with pytest.raises(ValueError, match=r"training\.\w+: expected .* got "):
        Run.resume(trainer.run.folder, other)
