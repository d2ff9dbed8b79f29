"""Faults during training: a full disk, a killed process, damaged or missing files."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from seqcells.lab.training import Config
from seqcells.lab.training.checkpoints import load_checkpoint, save_checkpoint

ROOT = Path(__file__).parents[2]
SETTINGS = """
model: {cell: gru, embedding_size: 8, hidden_size: 8, dropout: 0.2}
training:
  {epochs: 3, batch_size: 16, threads: 1, learning_rate: 0.01, save_seconds: 0.05, device: cpu}
"""


def start(folder, *arguments, limit=None):
    def restrict():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writes fail with an error instead

    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=None if limit is None else restrict,
    )


def finish(process):
    output, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    return output


def weights(run):
    return torch.load(run / "best.pt", weights_only=True)["model"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "small.yaml").write_text(SETTINGS)
    return tmp_path


@pytest.mark.slow
def test_full_disk_error_names_the_checkpoint(folder):
    """The file size limit allows the vocabulary, but not the first checkpoint."""
    full = start(folder, "small.yaml", "--run=run", limit=16_384)
    _, error = full.communicate(timeout=60)
    assert full.returncode == 2
    assert error.startswith("error: "), error
    assert error.count("\n") == 1
    assert "last.pt" in error
    assert sorted(path.name for path in (folder / "run").iterdir()) == [
        "config.yaml",
        "vocabulary.json",
    ]


@pytest.mark.parametrize("name", ["last.pt", "best.pt"])
def test_failed_save_keeps_the_previous_checkpoint(name, tmp_path, monkeypatch):
    path = tmp_path / name
    save_checkpoint(path, Config(), {"weights": torch.arange(1000.0)})
    content = {"weights": torch.zeros(100_000)}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match=name):
            save_checkpoint(path, Config(), content)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert torch.equal(load_checkpoint(path, Config())["weights"], torch.arange(1000.0))
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_checkpoint_is_valid_after_a_kill_while_saving(tmp_path):
    # Few enough numbers for one thread: OpenMP would wait for threads that a fork does not copy.
    path, rng = tmp_path / "last.pt", random.Random(0)
    save_checkpoint(path, Config(), {"number": 0, "weights": torch.zeros(30_000)})
    for _ in range(50):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            for number in range(1, 1_000_000):
                weights = torch.full((30_000,), float(number))
                save_checkpoint(path, Config(), {"number": number, "weights": weights})
                os.write(writer, b"saved")
        os.read(reader, 5)
        time.sleep(rng.uniform(0.0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)
        content = load_checkpoint(path, Config())
        assert content["number"] > 0
        assert (content["weights"] == content["number"]).all()


@pytest.mark.slow
def test_run_killed_repeatedly_equals_an_uninterrupted_run(folder):
    finish(start(folder, "small.yaml", "--run=whole"))
    rng, arguments = random.Random(0), ["small.yaml", "--run=broken"]
    for _ in range(8):
        process = start(folder, *arguments)
        while not (folder / "broken/last.pt").exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.4) if arguments[0] == "small.yaml" else rng.uniform(2, 4))
        process.kill()
        process.communicate(timeout=60)
        arguments = ["--resume=broken"]
        if (folder / "broken/metrics.json").exists():
            break
    if not (folder / "broken/metrics.json").exists():
        finish(start(folder, "--resume=broken"))
    assert not list((folder / "broken").glob("*.part"))
    for name, value in weights(folder / "whole").items():
        assert torch.equal(weights(folder / "broken")[name], value), name


@pytest.mark.parametrize("name", ["last.pt", "vocabulary.json", "config.yaml"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damaged_run_error_names_the_file(name, damage, make_trainer, train_main, capfd, tmp_path):
    from seqcells.lab.training import InterruptedRunError, command

    trainer = make_trainer()
    with pytest.raises(InterruptedRunError):
        trainer.fit(lambda: trainer.progress.sums.batches == 3)
    run = trainer.run.folder
    others = {path.name: path.read_bytes() for path in run.iterdir() if path.name != name}
    path = run / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3]) if damage == "cut" else path.unlink()
    if (name, damage) != ("config.yaml", "cut"):
        assert command(train_main, ["--resume", str(run)]) == 2
        error = capfd.readouterr().err
        assert error.count("\n") == 1
        assert name in error or "config.yaml" in error
    assert {p.name: p.read_bytes() for p in run.iterdir() if p.name in others} == others
    path.write_bytes(whole)
    assert command(train_main, ["--resume", str(run)]) == 0
