"""Metrics that are read several batches late, as on a GPU, and steps skipped in float16."""

import math
import subprocess
import sys

import pytest
import torch

from seqcells.lab.training import InterruptedRunError, NonFiniteLossError, command, load_best
from seqcells.lab.training.checkpoints import random_states, restore_random_states
from seqcells.lab.training.devices import Transfer
from seqcells.lab.training.metrics import PendingMetrics
from seqcells.lab.training.tasks import Judgement

TIMED = ("seconds", "tokens_per_second")


def timeless(trainer):
    return [
        {key: value for key, value in epoch.items() if key not in TIMED}
        for epoch in trainer.progress.history
    ]


def assert_same_weights(first, second):
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


@pytest.fixture
def make_deferred(make_trainer):
    """Return a function that makes a trainer that reads metrics every three batches, of eight."""

    def make(**settings):
        trainer = make_trainer(**settings)
        trainer.max_pending = 3
        return trainer

    return make


@pytest.mark.parametrize("accumulate", [1, 3])
def test_deferred_metrics_equal_immediate_metrics(accumulate, make_trainer, make_deferred):
    immediate = make_trainer(accumulate=accumulate)
    immediate.fit()
    deferred = make_deferred(accumulate=accumulate)
    deferred.fit()
    assert_same_weights(immediate, deferred)
    assert timeless(immediate) == timeless(deferred)


@pytest.mark.parametrize("count", [2, 7, 10])
def test_run_with_deferred_metrics_resumes_exactly(count, make_deferred, reopen):
    whole = make_deferred()
    whole.fit()
    broken = make_deferred()
    calls = iter(range(100))
    with pytest.raises(InterruptedRunError):
        broken.fit(lambda: next(calls) >= count)
    resumed = reopen(broken.run.folder)
    resumed.max_pending = 3
    resumed.fit()
    assert_same_weights(whole, resumed)
    assert timeless(whole) == timeless(resumed)


def break_at(trainer, number, value=torch.nan):
    """Multiply gradients by `value` from batch `number` on."""
    batches = iter(range(1, 100))
    trainer.model.head.weight.register_hook(
        lambda gradient: gradient * value if next(batches) >= number else gradient
    )


@pytest.mark.parametrize("interrupted", [False, True], ids=["read", "saved"])
def test_error_names_the_batch_and_no_weights_are_saved(interrupted, make_deferred):
    trainer = make_deferred()
    trainer.save()
    good = trainer.run.last.read_bytes()
    break_at(trainer, 5)
    calls = iter(range(100))
    with pytest.raises(
        NonFiniteLossError, match=r"epoch 1, batch 5: expected a finite gradient norm, got nan"
    ):
        trainer.fit(lambda: interrupted and next(calls) >= 5)
    assert trainer.run.last.read_bytes() == good
    assert not trainer.run.best.exists()


def test_non_finite_last_batches_are_not_saved(make_deferred):
    trainer = make_deferred()
    break_at(trainer, 8)  # two batches after the last reading
    with pytest.raises(NonFiniteLossError, match="epoch 1, batch 8"):
        trainer.fit()
    assert not trainer.run.best.exists()


def test_metrics_belong_to_their_batches():
    pending = PendingMetrics()
    pending.add(Judgement(torch.tensor(2.5), torch.tensor(3)), 1.0, 4)
    pending.add(Judgement(torch.tensor(1.5), torch.tensor(1)), 0.0, 5, torch.tensor(0.25))
    assert [tuple(one) for one in pending.read()] == [(2.5, 3.0, 4, None), (0.0, 0.0, 5, 0.25)]
    assert pending.read() == []


GROWTH = """
import torch
from seqcells.lab.training.metrics import PendingMetrics
from seqcells.lab.training.tasks import Judgement

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def add(size):
    batch = torch.ones(size)
    loss = batch.exp().sum()  # beside the memory of a batch
    pending.add(Judgement(loss), 1.0, 1)

pending = PendingMetrics()
torch.ones(8_000_000)  # once freed, memory of up to this size comes from the heap
for number in range(20):
    add(2_000_000)
before = resident()
for number in range(60):
    add(2_000_000)
print((resident() - before) >> 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process in Linux")
def test_pending_metrics_do_not_keep_memory_from_being_used_again():
    command = [sys.executable, "-c", GROWTH]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64  # MiB


def test_float16_is_close_to_float32(make_trainer):
    settings = {"model": {"embedding_dropout": 0.0, "dropout": 0.0}, "epochs": 1}
    exact, mixed = (make_trainer(precision=kind, **settings) for kind in ("float32", "float16"))
    for trainer in (exact, mixed):
        trainer.fit()
    first, second = exact.progress.history[0], mixed.progress.history[0]
    for key in ("train_loss", "validation_loss", "gradient_norm"):
        assert first[key] == pytest.approx(second[key], rel=2e-2), key
    assert {value.dtype for value in mixed.model.parameters()} == {torch.float32}


def test_overflowing_step_is_skipped(make_trainer):
    trainer = make_trainer(precision="float16", warmup=0.0)
    batch = next(trainer.data.train.epoch(1))
    before = trainer.model.head.weight.detach().clone()
    overflow = trainer.model.head.weight.register_hook(lambda gradient: gradient * torch.inf)
    trainer.step(batch)
    overflow.remove()
    sums, scale = trainer.progress.sums, trainer.learner.scaler.get_scale()
    assert torch.equal(trainer.model.head.weight, before)
    assert (sums.steps, sums.skipped, sums.norm) == (1, 1, 0.0)
    trainer.step(batch)
    assert not torch.equal(trainer.model.head.weight, before)
    assert (sums.steps, sums.skipped) == (2, 1)
    assert 0 < sums.mean_norm() == sums.norm < math.inf
    assert trainer.learner.scaler.get_scale() == scale == 2.0**15


def test_run_with_only_overflows_raises(make_trainer):
    trainer = make_trainer(precision="float16", epochs=9, patience=9)
    break_at(trainer, 1)
    with pytest.raises(NonFiniteLossError, match=r"expected a finite gradient norm, got nan"):
        trainer.fit()
    assert 30 < 8 * (trainer.progress.epoch - 1) + trainer.progress.sums.skipped < 50


def test_float16_resumes_exactly(make_trainer, reopen):
    whole = make_trainer(precision="float16", epochs=1)
    whole.learner.scaler.set_growth_interval(3)
    whole.fit()
    broken = make_trainer(precision="float16", epochs=1)
    broken.learner.scaler.set_growth_interval(3)
    calls = iter(range(100))
    with pytest.raises(InterruptedRunError):
        broken.fit(lambda: next(calls) >= 5)
    resumed = reopen(broken.run.folder)
    assert resumed.learner.scaler.get_scale() == 2.0**17
    resumed.fit()
    assert_same_weights(whole, resumed)
    assert resumed.learner.scaler.state_dict() == whole.learner.scaler.state_dict()


def test_run_from_a_gpu_resumes_on_the_cpu(make_trainer, reopen, train_main, capfd, monkeypatch):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    trainer = make_trainer(epochs=1)
    with pytest.raises(InterruptedRunError):
        trainer.fit(lambda: trainer.progress.sums.batches == 3)
    folder = trainer.run.folder
    last = torch.load(trainer.run.last, weights_only=True)
    last["config"]["training.device"] = "cuda"
    last["processes"][0]["random"]["cuda"] = torch.zeros(16, dtype=torch.uint8)
    torch.save(last, trainer.run.last)
    settings = trainer.run.settings.read_text()
    trainer.run.settings.write_text(settings.replace("device: cpu", "device: cuda"))

    arguments = ["--resume", str(folder)]
    assert command(train_main, arguments) == 2
    assert (
        "training.device: expected auto or cpu, the devices of this machine"
        in capfd.readouterr().err
    )
    assert command(train_main, [*arguments, "--training.device=cpu"]) == 0
    run = type(trainer.run).open(folder)
    assert run.config.training.device == "cuda"
    assert run.read_result()["device"] == "cpu"
    load_best(run, run.load_vocabulary())


def test_checkpoints_include_device_generators(monkeypatch):
    class Generators:
        state = torch.arange(3)

        def get_rng_state(self):
            return self.state

        def set_rng_state(self, state):
            self.state = state

    generators, device = Generators(), torch.device("cuda", 0)
    monkeypatch.setattr("torch.get_device_module", lambda device: generators)
    states = random_states(device)
    generators.state = None
    restore_random_states(states, device)
    assert torch.equal(generators.state, torch.arange(3))
    assert "cuda" not in random_states(torch.device("cpu"))


def test_transfer_to_the_cpu_does_not_copy(make_trainer):
    batch = next(make_trainer().data.train.epoch(1))
    moved = Transfer(torch.device("cpu"))(batch)
    assert all(one is other for one, other in zip(batch, moved))
