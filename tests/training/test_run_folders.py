"""Test that a run's folder belongs to one training process, and that failures leave no folder."""

import errno
import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from seqcells.lab.training import Config, Run, command, folder_lock, runs
from seqcells.lab.training.folder_lock import FolderLock

ROOT = Path(__file__).parents[2]
# Loads the module alone: importing the package takes seconds.
LOAD = f"import runpy; FolderLock = runpy.run_path({folder_lock.__file__!r})['FolderLock']\n"


def create(folder, name="name"):
    return Run.create(Config(run=None if folder is None else str(folder)), name)


def start(code, *arguments):
    """Run code that uses `FolderLock` in another process."""
    code = "import sys, time\nfrom pathlib import Path\n" + LOAD + code
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


def test_a_folder_must_be_new_or_empty(tmp_path):
    (tmp_path / "empty").mkdir()
    assert create(tmp_path / "empty").folder.is_dir()
    assert create(tmp_path / "a" / "b").folder.is_dir()

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    for _ in range(2):  # a refusal leaves no lock
        with pytest.raises(ValueError, match=r"run: expected a new or empty folder, got .*full"):
            create(tmp_path / "full")
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["notes.txt"]
    with pytest.raises(ValueError, match="run: expected a writable folder"):
        create(tmp_path / "full" / "notes.txt" / "run")
    with pytest.raises(ValueError, match="run: expected a writable folder"):
        create(tmp_path / "full" / "notes.txt")


def test_default_folders_have_a_unique_name(tmp_path, monkeypatch):
    class Clock:
        now = staticmethod(lambda: datetime(2026, 1, 2, 3, 4, 5))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "datetime", Clock)
    first, second, third = (create(None, "corpus_lstm") for _ in range(3))
    names = [run.folder.as_posix() for run in (first, second, third)]
    start = "runs/corpus_lstm-20260102-030405"
    assert names == [start, f"{start}-2", f"{start}-3"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("configs/corpus_lstm.yaml", "corpus_lstm"),
        ("sentiment", "sentiment"),
        ("runs/corpus_lstm-20260102-030405/config.yaml", "corpus_lstm"),
        ("runs/corpus_lstm-20260102-030405-2/config.yaml", "corpus_lstm"),
        ("runs/mine/config.yaml", "mine"),
    ],
)
def test_a_run_is_named_by_its_configuration(path, name):
    assert runs.name_of(path) == name


def test_a_folder_in_use_is_refused(tmp_path):
    with create(tmp_path / "run") as run:
        owner = rf"process {os.getpid()} on "
        with pytest.raises(ValueError, match=rf"got .*run, which {owner}.*choose another folder"):
            create(tmp_path / "run")
        run.begin(None)
        run.last.touch()
        with pytest.raises(ValueError, match=rf"expected a run that no process.*{owner}"):
            Run.resume(run.folder, run.config)
    with Run.resume(run.folder, run.config) as resumed:
        assert resumed.folder == run.folder
        with pytest.raises(ValueError, match="expected a run that no process is training"):
            Run.resume(run.folder, run.config)
    run.write_result({})
    for _ in range(2):
        with pytest.raises(ValueError, match="expected an unfinished run"):
            Run.resume(run.folder, run.config)
    assert not (run.folder / folder_lock.NAME).exists()


def test_a_killed_process_holds_no_lock(tmp_path):
    code = "lock = FolderLock(); lock.acquire(Path(sys.argv[1])); print(1, flush=True)\n"
    with start(code + "time.sleep(60)", tmp_path) as other:
        try:
            assert other.stdout.readline() == "1\n"
            with pytest.raises(ValueError, match=rf"process {other.pid} on "):
                create(tmp_path)
        finally:
            other.kill()
    with create(tmp_path) as run:
        assert run.folder == tmp_path


def test_processes_exclude_each_other(tmp_path):
    """Create and remove one folder in many processes; in it, one must be alone."""
    code = """
inside, entered = Path(sys.argv[1]), 0
end = time.monotonic() + 1
while time.monotonic() < end:
    lock = FolderLock()
    if lock.create(inside, exist_ok=True) is None:
        (inside / "alone").touch(exist_ok=False)
        (inside / "alone").unlink()
        entered += 1
        lock.release()
print(entered)
"""
    processes = [start(code, tmp_path / "run") for _ in range(4)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert all(int(output) > 0 for output in outputs)


def test_a_file_system_without_locks_is_announced(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(folder_lock.fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="file system without locks"), create(tmp_path / "run"):
        pass
    monkeypatch.setattr(folder_lock.fcntl, "flock", lambda *_: os.stat(tmp_path / "missing"))
    with pytest.raises(FileNotFoundError):
        FolderLock().acquire(tmp_path)


@pytest.mark.parametrize("existing", [False, True])
def test_an_early_failure_leaves_no_folder(existing, train_main, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    if existing:
        Path("mine").mkdir()
    arguments = ["--data.source", "imdb", "--data.path", "missing.tar.gz"]
    arguments += ["--run", "mine"] if existing else []
    assert command(train_main, arguments) == 2
    assert "missing.tar.gz" in capfd.readouterr().err
    assert list(Path().glob("runs/*")) == []
    assert list(Path().glob("mine/*")) == []
    assert Path("mine").exists() == existing


@pytest.mark.slow
def test_trainings_started_together_all_finish(tmp_path):
    config = tmp_path / "words.yaml"
    config.write_text((ROOT / "configs" / "corpus_words.yaml").read_text())
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, ROOT / "train.py", config, "--training.epochs", "1"]
    processes = [
        subprocess.Popen(arguments, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    errors = [process.communicate(timeout=200)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, errors
    results = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/metrics.json")]
    assert len(results) == 4
    assert len({result["test_loss"] for result in results}) == 1
    assert list(tmp_path.glob("runs/*/.lock")) == []
