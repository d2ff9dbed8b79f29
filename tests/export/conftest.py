import subprocess
import sys

import pytest
import torch
from small_models import SMALL, WORDS, randomise

from seqcells.kernels import cpu
from seqcells.lab.model_config import ModelConfig
from seqcells.lab.models import build_model
from seqcells.lab.text.vocabulary import Vocabulary
from seqcells.lab.training import Config, Run, task_of
from seqcells.lab.training.checkpoints import save_checkpoint

# Without kernels, the Python loop warns.
ALLOWED = ["-W", "ignore:seqcells runs a slow:UserWarning"] if cpu.unavailable() else []
SHAPES = [(7, 4), (1, 1), (12, 1), (1, 3), (40, 6)]  # steps, rows


@pytest.fixture
def make_model():
    def make(**settings):
        return randomise(build_model(ModelConfig(**(SMALL | settings)), len(WORDS)))

    return make


@pytest.fixture
def batches():
    """Return ragged, unsorted batches with nonzero padding, also of one row and of one step."""
    generator = torch.Generator().manual_seed(1)
    batches = []
    for steps, rows in SHAPES:
        tokens = torch.randint(0, len(WORDS), (steps, rows), generator=generator)
        batches.append((tokens, torch.randint(1, steps + 1, (rows,), generator=generator)))
    return batches


@pytest.fixture
def make_run(tmp_path):
    """Return a function that creates a run with an untrained model."""

    def make(name="run", *, task="sentiment", words=WORDS, **settings):
        model = ModelConfig(**(SMALL | settings))
        run = Run.create(Config(task=task, model=model, run=str(tmp_path / name)), name)
        reads_text = task_of(run.config).reads_text
        vocabulary = Vocabulary(words, [(r"\.", " . "), (",", " , ")]) if reads_text else None
        run.begin(vocabulary)
        weights = randomise(task_of(run.config).build(vocabulary)).state_dict()
        save_checkpoint(run.best, run.config, {"model": weights})
        return run

    return make


@pytest.fixture
def run_python(tmp_path):
    """Return a function that runs code in a new process and returns its output."""

    def run(code, folder=tmp_path):
        command = [sys.executable, "-W", "error", *ALLOWED, "-c", code]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run
