"""The build without a compiler."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PTY = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]))"


def build(folder, *, in_terminal):
    """Run setup.py with a missing compiler; return the terminal's output and the log."""
    command = [sys.executable, "setup.py", "build_ext"]
    command += ["--build-temp", str(folder / "temp"), "--build-lib", str(folder / "lib")]
    redirected = ["sh", "-c", f"{shlex.join(command)} > {shlex.quote(str(folder / 'log'))} 2>&1"]
    result = subprocess.run(
        [sys.executable, "-c", PTY, *redirected] if in_terminal else redirected,
        cwd=ROOT,
        env=os.environ | {"CXX": "/nowhere/c++"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        start_new_session=True,
    )
    log = (folder / "log").read_text()
    assert result.returncode == 0, result.stderr + log
    assert not list((folder / "lib").rglob("*.so"))
    return result.stdout, log


def is_announced(text):
    return (
        text.count("the C++ kernels were not built") == 1
        and "/nowhere/c++" in text
        and "Install g++ or clang++" in text
        and "pip install --force-reinstall --no-deps ." in text
    )


def test_a_build_without_kernels_is_announced_on_the_terminal_and_in_the_log(tmp_path):
    terminal, log = build(tmp_path, in_terminal=True)
    assert is_announced(terminal), terminal
    assert is_announced(log), log


def test_a_build_without_kernels_and_without_a_terminal_is_announced_in_the_log(tmp_path):
    terminal, log = build(tmp_path, in_terminal=False)
    assert terminal == ""
    assert is_announced(log), log
