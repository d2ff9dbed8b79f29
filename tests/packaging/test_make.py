"""Test which environment `make` creates, keeps and rebuilds, with stub interpreters."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Answers to the commands that the Makefile runs: a probe of the version, `venv` and `pip`.
INTERPRETER = """#!/bin/sh
echo "{version}: $*" >> "{log}"
case "$1 $2" in
-c*) echo {version} ;;
"-m venv")
  for folder; do :; done
  rm -rf "$folder"
  mkdir -p "$folder/bin"
  cp "$0" "$folder/bin/python"
  ;;
"-m pip") case "$3" in install) exit {status} ;; esac ;;
esac
"""


class Checkout:
    """A checkout of the build files alone, with its own PATH."""

    def __init__(self, folder):
        self.folder, self.log = folder / "checkout", folder / "log"
        self.interpreters = folder / "bin"
        self.interpreters.mkdir()
        for name in ("Makefile", "setup.cfg", "setup.py", "pyproject.toml", "constraints.txt"):
            self.folder.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, self.folder)
        (self.folder / ".ci").mkdir()
        shutil.copy(ROOT / ".ci" / "environment", self.folder / ".ci")

    def add(self, name, version, status=0):
        """Add an interpreter whose `pip install` exits with `status`."""
        path = self.interpreters / name
        path.write_text(INTERPRETER.format(version=version, log=self.log, status=status))
        path.chmod(0o755)

    def make(self, *arguments, status=0):
        """Run `make train`; return what its interpreters ran, and the standard error."""
        self.log.write_text("")
        path = f"{self.interpreters}:{os.environ['PATH']}"
        kept = {
            n: v for n, v in os.environ.items() if n not in ("PYTHON", "MAKEFLAGS", "MAKELEVEL")
        }
        done = subprocess.run(
            ["make", "train", *arguments],
            cwd=self.folder,
            env=kept | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode != 0) == bool(status), done.stderr
        return self.log.read_text().splitlines(), done.stderr

    @property
    def ready(self):
        return (self.folder / ".venv" / "ready").exists()


@pytest.fixture
def checkout(tmp_path):
    made = Checkout(tmp_path)
    made.add("python3", "3.11")
    made.add("python3.10", "3.10")
    made.add("python3.12", "3.12")
    return made


def created(lines):
    return [line.split(":")[0] for line in lines if "-m venv" in line]


def installed(lines):
    return [line.split(":")[0] for line in lines if "-m pip install" in line]


def trained(lines):
    return lines[-1].split(": train.py")[0]


def test_the_environment_is_created_once(checkout):
    lines, _ = checkout.make()
    assert (created(lines), installed(lines), trained(lines)) == (["3.11"], ["3.11"], "3.11")
    lines, _ = checkout.make()
    assert lines == ["3.11: train.py configs/corpus_lstm.yaml"]  # not even a probe


@pytest.mark.parametrize("version", ["2.7", "3.9", "3.10"])
def test_unsupported_python_fails_before_anything_is_created(checkout, version):
    checkout.add("old", version)
    lines, error = checkout.make("PYTHON=old", status=2)
    expected = f"expected Python 3.11 or later, got {version}; name one: make PYTHON=python3.11"
    assert f"PYTHON: {expected}" in error.splitlines()
    assert not created(lines)
    assert not (checkout.folder / ".venv").exists()
    assert trained(checkout.make("PYTHON=python3.12")[0]) == "3.12"


def test_the_bound_is_that_of_the_package(checkout):
    settings = checkout.folder / "setup.cfg"
    settings.write_text(
        settings.read_text().replace("python_requires = >=3.11", "python_requires = >=3.12")
    )
    assert "expected Python 3.12 or later, got 3.11" in checkout.make(status=2)[1]
    assert trained(checkout.make("PYTHON=python3.12")[0]) == "3.12"


def test_missing_python_fails_with_one_line(checkout):
    _, error = checkout.make("PYTHON=python9", status=2)
    first, *rest = error.splitlines()
    assert first.startswith(
        "PYTHON: expected Python 3.11 or later, got 'python9', which does not run"
    )
    assert [line.startswith("make:") for line in rest] == [True]
    assert not (checkout.folder / ".venv").exists()


def test_unsupported_python_leaves_a_good_environment(checkout):
    checkout.make()
    checkout.make("PYTHON=python3.10", status=2)
    assert checkout.ready
    assert trained(checkout.make()[0]) == "3.11"


def test_another_python_rebuilds_the_environment(checkout):
    checkout.make()
    lines, _ = checkout.make("PYTHON=python3.12")
    assert (created(lines), installed(lines), trained(lines)) == (["3.12"], ["3.12"], "3.12")
    lines, _ = checkout.make("PYTHON=python3.12")
    assert not created(lines)
    assert not installed(lines)
    assert trained(checkout.make()[0]) == "3.12"  # kept without PYTHON


def test_changed_requirements_are_installed_into_the_same_environment(checkout):
    checkout.make("PYTHON=python3.12")
    os.utime(checkout.folder / ".venv" / "ready", (0, 0))
    lines, _ = checkout.make()
    assert (created(lines), installed(lines), trained(lines)) == ([], ["3.12"], "3.12")


def test_environment_of_an_unsupported_python_is_rebuilt(checkout):
    (checkout.folder / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(checkout.interpreters / "python3.10", checkout.folder / ".venv" / "bin" / "python")
    lines, _ = checkout.make()
    assert (created(lines), trained(lines)) == (["3.11"], "3.11")


def test_failed_installation_is_repeated_in_a_new_environment(checkout):
    checkout.add("python3", "3.11", status=1)
    checkout.make(status=2)
    assert not checkout.ready
    checkout.add("python3", "3.11")
    lines, _ = checkout.make()
    assert (created(lines), installed(lines), trained(lines)) == (["3.11"], ["3.11"], "3.11")


def test_environment_without_an_interpreter_is_rebuilt(checkout):
    (checkout.folder / ".venv" / "lib").mkdir(parents=True)
    lines, _ = checkout.make()
    assert (created(lines), trained(lines)) == (["3.11"], "3.11")
    assert not (checkout.folder / ".venv" / "lib").exists()
