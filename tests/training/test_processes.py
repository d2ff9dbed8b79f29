"""Data-parallel training with torchrun."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
SETTINGS = """
model: {cell: gru, embedding_size: 8, hidden_size: 8, readout: [max]}
training:
  {epochs: 2, batch_size: 16, threads: 1, learning_rate: 0.01, save_seconds: 0.2, device: cpu}
"""


def start(processes, *arguments, folder):
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--"]
    script = str(ROOT / "train.py")
    command = [sys.executable, *(torchrun if processes > 1 else []), script, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, start_new_session=True, **pipes
    )


def run(processes, *arguments, folder):
    process = start(processes, *arguments, folder=folder)
    output, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    return output


def history(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder, name="best.pt"):
    return torch.load(folder / name, weights_only=True)["model"]


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "small.yaml").write_text(SETTINGS)
    return tmp_path


def assert_alike(first, second):
    """Compare losses, weights and results of two runs up to rounding."""
    for one, other in zip(history(first), history(second), strict=True):
        for key in ("train_loss", "validation_loss", "gradient_norm", "learning_rate"):
            assert one[key] == pytest.approx(other[key], rel=1e-4), key
    for name, value in weights(first).items():
        torch.testing.assert_close(weights(second)[name], value, rtol=1e-3, atol=1e-5)
    one, other = (json.loads((path / "metrics.json").read_text()) for path in (first, second))
    assert one["test_loss"] == pytest.approx(other["test_loss"], rel=1e-4)


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_batch_size(settings):
    """3,000 texts in batches of 31 + 31: the last batch is smaller, shards differ in tokens."""
    one_epoch = ["small.yaml", "--training.epochs=1"]
    output = run(2, *one_epoch, "--run=two", "--training.batch_size=31", folder=settings)
    assert output.count("epoch 1/1") == output.count("test accuracy") == 1
    run(1, *one_epoch, "--run=one", "--training.batch_size=62", folder=settings)
    assert_alike(settings / "one", settings / "two")
    assert json.loads((settings / "two/metrics.json").read_text())["processes"] == 2


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_equal_one_with_twice_the_batch_size(settings):
    run(2, "small.yaml", "--run=two", "--training.device=cuda", folder=settings)
    arguments = ["--training.device=cuda", "--training.batch_size=32"]
    run(1, "small.yaml", "--run=one", *arguments, folder=settings)
    assert_alike(settings / "one", settings / "two")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["--task=digits", "--training.batch_size=57"],  # 1197 = 10 * 114 + 57
        ["--task=copying", "--data.steps=3", "--data.examples=65"],  # a last batch of one
        ["--task=language", "--model.readout=[last]"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_batches_of_other_tasks_are_sharded(arguments, settings):
    run(2, "small.yaml", "--run=two", *arguments, folder=settings)
    batch_size = 2 * int(
        dict(part.split("=") for part in arguments).get("--training.batch_size", 16)
    )
    arguments = [*arguments, f"--training.batch_size={batch_size}"]
    run(1, "small.yaml", "--run=one", *arguments, folder=settings)
    assert_alike(settings / "one", settings / "two")


@pytest.mark.slow
def test_an_error_of_all_processes_is_printed_once(settings):
    process = start(2, "--training.epochs=-1", folder=settings)
    output, error = process.communicate(timeout=120)
    assert process.returncode != 0
    assert output == ""
    line = "error: training.epochs: expected a whole number of at least 1, got -1"
    assert error.splitlines().count(line) == 1
    assert f"traceback : {line}" in error  # in the summary of torchrun


@pytest.mark.slow
def test_run_resumes_after_a_killed_worker(settings):
    arguments = ["small.yaml", "--training.epochs=4", "--model.dropout=0.3"]
    run(2, *arguments, "--run=whole", folder=settings)
    broken = start(2, *arguments, "--run=broken", folder=settings)
    assert broken.stdout.readline().startswith("epoch 1/4")
    time.sleep(0.5)
    workers = subprocess.run(
        ["pgrep", "-P", str(broken.pid)], capture_output=True, text=True, check=True
    )
    os.kill(int(workers.stdout.split()[-1]), signal.SIGKILL)
    broken.communicate(timeout=120)
    assert broken.returncode != 0
    assert not (settings / "broken/metrics.json").exists()

    alone = start(1, "--resume=broken", folder=settings)
    _, error = alone.communicate(timeout=120)
    assert "expected 2 processes" in error
    run(2, "--resume=broken", folder=settings)
    for name, value in weights(settings / "whole").items():
        assert torch.equal(weights(settings / "broken")[name], value), name


@pytest.mark.slow
def test_interrupted_processes_stop_together_and_resume(settings):
    arguments = ["small.yaml", "--training.epochs=4"]
    run(2, *arguments, "--run=whole", folder=settings)
    broken = start(2, *arguments, "--run=broken", folder=settings)
    assert broken.stdout.readline().startswith("epoch 1/4")
    with contextlib.suppress(ProcessLookupError):
        os.killpg(broken.pid, signal.SIGINT)
    _, error = broken.communicate(timeout=120)
    assert broken.returncode != 0
    assert "--nproc-per-node 2 -- train.py --resume broken" in error
    run(2, "--resume=broken", folder=settings)
    for name, value in weights(settings / "whole").items():
        assert torch.equal(weights(settings / "broken")[name], value), name
