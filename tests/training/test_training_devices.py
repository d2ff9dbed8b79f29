"""Selection of the training device, and steps that do not synchronise with it.

Tensors on the meta device have no values, so reading a value raises.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seqcells.lab.training import Config, ModelConfig, TrainingConfig, command, device_of, task_of
from seqcells.lab.training.config import TASK_NAMES, DataConfig
from seqcells.lab.training.optimisation import Learner


@pytest.fixture
def machine(monkeypatch):
    """Return a function that fakes accelerators and the environment of `torchrun`."""

    def fake(kind, count, local_rank=None):
        monkeypatch.setattr("torch.accelerator.is_available", lambda: count > 0)
        monkeypatch.setattr("torch.accelerator.device_count", lambda: count)
        monkeypatch.setattr("torch.accelerator.current_accelerator", lambda: torch.device(kind))
        monkeypatch.setenv("WORLD_SIZE", "1" if local_rank is None else "4")
        monkeypatch.setenv("LOCAL_RANK", str(local_rank or 0))

    return fake


@pytest.mark.parametrize(
    ("machine_has", "name", "device"),
    [
        (("cuda", 0), "auto", "cpu"),
        (("cuda", 2), "auto", "cuda:0"),
        (("cuda", 2), "cpu", "cpu"),
        (("cuda", 2), "cuda:1", "cuda:1"),
        (("cuda", 2, 1), "auto", "cuda:1"),
        (("cuda", 2, 1), "cuda", "cuda:1"),
        (("cuda", 2, 3), "cpu", "cpu"),
        (("mps", 1), "auto", "cpu"),
        (("mps", 1), "mps", "mps:0"),
        (("mps", 1, 1), "auto", "cpu"),
    ],
    ids=str,
)
def test_device_selection(machine_has, name, device, machine):
    machine(*machine_has)
    assert device_of(TrainingConfig(device=name)) == torch.device(device)


@pytest.mark.parametrize(
    ("machine_has", "settings", "message"),
    [
        (("cuda", 0), {"device": "cuda"}, r"training.device: expected auto or cpu, .* got 'cuda'"),
        (
            ("cuda", 1),
            {"device": "mps"},
            r"training.device: expected auto, cpu or cuda, .*'mps'",
        ),
        (("cuda", 2), {"device": "cuda:2"}, "training.device: expected an index below 2"),
        (("cuda", 2), {"device": "meta"}, "training.device: expected .* got 'meta'"),
        (("cuda", 2, 2), {}, "training.device: expected at most 2 processes .* in process 3"),
        (("cuda", 2, 0), {"device": "cuda:0"}, "training.device: expected cuda for several"),
        (("mps", 1, 0), {"device": "mps"}, "training.device: expected cpu or cuda for several"),
        (
            ("mps", 1),
            {"device": "mps", "precision": "float16"},
            "training.precision: expected float32 or bfloat16 on mps, got 'float16'",
        ),
    ],
    ids=str,
)
def test_unsupported_device_raises(machine_has, settings, message, machine):
    machine(*machine_has)
    with pytest.raises(ValueError, match=message):
        device_of(TrainingConfig(**settings))


@pytest.mark.parametrize("name", ["gpu", "cuda:first", ""])
def test_unknown_device_raises(name):
    with pytest.raises(ValueError, match=r"training.device: expected auto, cpu, cuda, .* got"):
        TrainingConfig(device=name)


def test_missing_device_raises_before_writing(machine, train_main, capfd, tmp_path):
    machine("cuda", 0)
    run = tmp_path / "run"
    assert command(train_main, ["--run", str(run), "--training.device=cuda"]) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert "training.device" in error
    assert not run.exists()


class MetaTensorsOnly(TorchDispatchMode):
    """Raise on CPU tensors, as copies between CPU and GPU synchronise."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        for part in tree_leaves((arguments, keywords or {})):
            if isinstance(part, torch.Tensor) and not part.is_meta:
                raise AssertionError(f"{function} got a CPU tensor of shape {tuple(part.shape)}")
        result = function(*arguments, **(keywords or {}))
        if isinstance(result, torch.Tensor) and not result.is_meta:
            raise AssertionError(f"{function} returned a CPU tensor")
        return result


SIZES = {"embedding_size": 6, "hidden_size": 5, "dropout": 0.2, "embedding_dropout": 0.2}
STEPS = {
    "gru, two layers": {"model": {"cell": "gru", "num_layers": 2, "bidirectional": True}},
    "every readout": {"model": {"readout": ["last", "max", "mean", "attention"], "ngrams": 3}},
    "min_gru": {"model": {"cell": "min_gru"}},
    "modifiers": {
        "model": {"modifiers": {"zoneout": 0.1, "drop_connect": 0.2, "learned_state": True}}
    },
    "pooled": {"model": {"kind": "pooled", "readout": ["last", "max"]}},
    "words": {"model": {"kind": "words"}},
    "window": {"model": {"kind": "window"}},
    "adversarial": {"training": {"adversarial": 0.5, "label_smoothing": 0.1}},
    "average": {"training": {"average": 0.9, "clip_value": 0.1, "clip_norm": None}},
    "capitals": {},
    "language": {"data": {"unit": "characters"}},
    "bidirectional language": {"task": "language", "model": {"bidirectional": True}},
    "dates": {"data": {"examples": 40}},
    "adding": {"data": {"examples": 40, "steps": 8}},
    "copying": {"data": {"examples": 40, "steps": 3}},
    "digits": {},
}


SLOW_STEPS = ("bidirectional language", "dates", "adding", "digits")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW_STEPS else []) for name in STEPS],
)
def test_steps_do_not_synchronise(name, small_corpus):
    parts = STEPS[name]
    task = parts.get("task", name if name in TASK_NAMES else "sentiment")
    config = Config(
        task=task,
        data=DataConfig(**{"max_tokens": 6} | parts.get("data", {})),
        model=ModelConfig(**SIZES | parts.get("model", {})),
        training=TrainingConfig(batch_size=16, **parts.get("training", {})),
    )
    take_a_step(config)


def take_a_step(config):
    """Train on two batches on the meta device, with SGD, as fused Adam does not support it."""
    task = task_of(config)
    data = task.load()
    learner = Learner(task, task.build(data.vocabulary).to("meta"), config.training)
    learner.optimiser = torch.optim.SGD(learner.model.parameters())
    for batch in list(data.train.epoch(1))[:2]:
        moved = batch.map(lambda part: part.to("meta"))
        with MetaTensorsOnly():
            learner.accumulate(moved, 1.0, first=True, last=True)
            assert learner.clip().is_meta
            learner.step(0.1)
    assert all(parameter.grad.is_meta for parameter in learner.model.parameters())
