"""Test the settings of the tests themselves."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

WARNINGS = """
import warnings

def test_of_torch():  # torch/_dynamo/guards.py
    warnings.warn(
        "Guards may run slower on Python 3.13.0. Consider upgrading to Python 3.13.1+.",
        RuntimeWarning,
    )

def test_of_torch_on_python_3_14():  # torch/jit/_script.py
    warnings.warn(
        "`torch.jit.script` is not supported in Python 3.14+ and may break. "
        "Please switch to `torch.compile` or `torch.export`.",
        DeprecationWarning,
    )

def test_of_another_text():
    warnings.warn("Guards may fail on Python 3.13.0.", RuntimeWarning)

def test_of_another_category():
    warnings.warn("Guards may run slower on Python 3.13.0.", UserWarning)
"""


def test_only_ignored_warnings_are_no_errors(tmp_path):
    (tmp_path / "test_warnings.py").write_text(WARNINGS)
    command = ["-m", "pytest", "-c", ROOT / "setup.cfg", "--rootdir", tmp_path, "-p", "no:xdist"]
    done = subprocess.run(
        [sys.executable, *command, "-q", "test_warnings.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    failed = [line.split("::")[1] for line in done.stdout.splitlines() if "FAILED" in line]
    assert [name.split()[0] for name in failed] == [
        "test_of_another_text",
        "test_of_another_category",
    ]
    assert "2 failed, 2 passed" in done.stdout
