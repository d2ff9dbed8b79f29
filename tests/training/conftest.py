import functools
import importlib.util
from pathlib import Path

import pytest
import torch
from command_line import write_config

from seqcells.lab.model_config import ModelConfig
from seqcells.lab.text.corpus import make_corpus
from seqcells.lab.training import Config, Run, Trainer, TrainingConfig, command, device_of, task_of

ROOT = Path(__file__).parents[2]
PLAIN = {"batch_size": 16, "epochs": 2, "threads": 1, "device": "cpu"}


@pytest.fixture(scope="session")
def train_main():
    """Return `main` of train.py."""
    spec = importlib.util.spec_from_file_location("train_script", ROOT / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def small_corpus(monkeypatch):
    """Replace the embedded corpus with a smaller one."""
    small = functools.partial(make_corpus, train=120, validation=40, test=60)
    monkeypatch.setattr("seqcells.lab.training.tasks.reviews.make_corpus", small)


@pytest.fixture
def make_trainer(small_corpus, tmp_path):
    """Return a function that creates a small run and its trainer."""
    numbers = iter(range(1000))

    def make(*, model=None, **training):
        small = {"embedding_size": 6, "hidden_size": 5, "embedding_dropout": 0.2, "dropout": 0.3}
        config = Config(
            model=ModelConfig(**(small | (model or {}))),
            training=TrainingConfig(**(PLAIN | training)),
            run=str(tmp_path / f"run-{next(numbers)}"),
        )
        with Run.create(config, "unused") as run:  # unlocked after that, so that tests can resume
            return prepare(run)

    return make


def prepare(run):
    """Create the trainer of a new run, as `session.train` does."""
    task = task_of(run.config)
    data = task.load()
    torch.manual_seed(run.config.training.seed)
    torch.set_num_threads(run.config.training.threads)
    model = task.build(data.vocabulary)
    run.begin(data.vocabulary)
    return Trainer(run, task, model.to(device_of(run.config.training)), data)


@pytest.fixture
def prepare_run():
    return prepare


@pytest.fixture
def reopen():
    """Return a function that resumes an interrupted run, as a new process would."""

    def reopen(folder):
        run = Run.open(folder)
        task = task_of(run.config)
        data = task.load(run.load_vocabulary() if task.reads_text else None)
        torch.manual_seed(999)  # resuming restores the state of the generator
        model = task.build(data.vocabulary).to(device_of(run.config.training))
        trainer = Trainer(run, task, model, data)
        trainer.resume()
        return trainer

    return reopen


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def finished(train_main, small_corpus, in_folder, capfd):
    """Return the folder of a small finished run."""
    config = write_config(in_folder, "recurrent")
    assert command(train_main, [config, "--run", "runs/done"]) == 0
    capfd.readouterr()
    return "runs/done"
