"""Outputs that cannot be written: one line with the path of the user, and no damage."""

import errno
import os
from pathlib import Path

import pytest

from seqcells.lab.cli import main
from seqcells.lab.files import write_atomically
from seqcells.lab.training.checkpoints import save_checkpoint

COMMANDS = {
    "report": ["report", "RUN"],
    "safetensors": ["export", "RUN", "--format", "safetensors"],
    "onnx": ["export", "RUN", "--format", "onnx"],
    "torch-export": ["export", "RUN", "--format", "torch-export"],
}
SUFFIXES = {"report": "html", "safetensors": "safetensors", "onnx": "onnx", "torch-export": "pt2"}
FULL = Path("/dev/full")
EARLIER = b"<!DOCTYPE html>\n<title>seqcells report</title>\n"  # a report replaces no other file
needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


@pytest.fixture(params=COMMANDS)
def command(request, make_run, tmp_path, capfd):
    """Return a function that runs a command that fails, and the name of an output for it."""
    if request.param != "report":
        pytest.importorskip("onnx" if request.param == "onnx" else "safetensors")
    run = make_run("lstm").folder
    arguments = [str(run) if one == "RUN" else one for one in COMMANDS[request.param]]

    def fail(output):
        capfd.readouterr()
        assert main([*arguments, "--output", str(output)]) == 2
        printed, error = capfd.readouterr()
        assert printed == ""
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert str(output) in error
        assert ".part" not in error
        return error

    return fail, f"file.{SUFFIXES[request.param]}"


def fill_disk(path):
    """Make writes to the temporary file of `path` fail as on a full disk."""
    path.with_name(f"{path.name}.{os.getpid()}.part").symlink_to(FULL)


@needs_full
def test_full_disk(command, tmp_path):
    fail, name = command
    path = tmp_path / name
    path.write_bytes(EARLIER)
    fill_disk(path)
    assert "(No space left on device); free disk space" in fail(path)
    assert path.read_bytes() == EARLIER
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_folder_in_place_of_the_file(command, tmp_path):
    fail, name = command
    (tmp_path / name / "content").mkdir(parents=True)
    fail(tmp_path / name)
    assert [file.name for file in (tmp_path / name).iterdir()] == ["content"]


def test_file_in_place_of_the_folder(command, tmp_path):
    fail, name = command
    (tmp_path / "folder").write_text("a file")
    fail(tmp_path / "folder" / name)
    fail(tmp_path / "folder" / "deeper" / name)
    assert (tmp_path / "folder").read_text() == "a file"


def test_no_permission(command, tmp_path, monkeypatch):
    fail, name = command
    path = tmp_path / name
    path.write_bytes(EARLIER)

    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied", f"{path}.part")

    monkeypatch.setattr("os.replace", refuse)  # chmod does not stop root
    assert "(Permission denied); choose another path" in fail(path)
    assert path.read_bytes() == EARLIER
    assert [file.name for file in tmp_path.iterdir()] == [name]


@needs_full
def test_full_disk_of_a_checkpoint(make_run, tmp_path):
    """`torch.save` replaces the OSError by a RuntimeError without a path."""
    path = tmp_path / "last.pt"
    fill_disk(path)
    with pytest.raises(OSError, match=r"free space to save .*last\.pt, got No space") as caught:
        save_checkpoint(path, make_run("lstm").config, {"numbers": list(range(100_000))})
    assert "--resume" in str(caught.value)
    assert ".part" not in str(caught.value)


def test_errors_keep_their_type(tmp_path):
    with pytest.raises(FileNotFoundError, match="create its folder first") as caught:
        write_atomically(tmp_path / "nowhere" / "file", lambda file: None)
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path, lambda file: None)
    with pytest.raises(ConnectionError, match=r"^lost$"):  # not about the file
        write_atomically(tmp_path / "file", lambda file: _raise(ConnectionError("lost")))
    assert list(tmp_path.iterdir()) == []


def _raise(error):
    raise error


def test_links_devices_and_pipes_stay(tmp_path):
    (tmp_path / "link").symlink_to("target")
    for content in (b"one", b"two"):
        write_atomically(tmp_path / "link", lambda file, content=content: file.write(content))
        assert (tmp_path / "target").read_bytes() == content
        assert (tmp_path / "link").is_symlink()
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(tmp_path / "pipe", lambda file: file.write(b"three"))
    assert os.read(reader, 10) == b"three"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
