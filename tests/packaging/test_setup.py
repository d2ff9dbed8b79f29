"""Which code the build compiles for a processor and a system, and builds that lack a tool."""

import os
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from seqcells.kernels.cpu import compiler

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


@pytest.mark.parametrize(
    ("system", "machine", "variants", "threads"),
    [
        ("Linux", "x86_64", ("portable", "AVX2", "AVX-512"), True),
        ("Linux", "aarch64", ("NEON",), True),
        ("Linux", "riscv64", ("portable",), True),
        ("Darwin", "arm64", ("NEON",), False),
        ("Darwin", "x86_64", ("portable", "AVX2", "AVX-512"), False),
    ],
)
def test_the_target_of_a_system_and_a_machine(system, machine, variants, threads):
    target = compiler.target(system, machine)
    assert (target.variants, target.threads) == (variants, threads)
    names = [name for name, _, _ in compiler.objects(target)]
    assert len(names) == len(set(names)) == len(variants) + 1
    flags = [flag for _, _, flags in compiler.objects(target) for flag in flags]
    assert any(flag.startswith("-mavx") for flag in flags) == (machine == "x86_64")
    assert not [flag for flag in flags if "native" in flag or flag.startswith("-Wl")]


def test_macos_has_no_openmp(monkeypatch):
    """A second runtime, of another compiler than that of torch, aborts the process."""
    monkeypatch.setattr(compiler, "_has_openmp", lambda command: True)
    linux, macos = compiler.target("Linux", "arm64"), compiler.target("Darwin", "arm64")
    monkeypatch.setattr(compiler, "target", lambda: linux)
    assert "-fopenmp" in compiler.flags()
    monkeypatch.setattr(compiler, "target", lambda: macos)
    assert "-fopenmp" not in compiler.flags()


# A compiler without OpenMP, as that of macOS.
COMPILER = """#!/bin/sh
case " $* " in *" -fopenmp "*)
  echo "error: unsupported option '-fopenmp'" >&2
  exit 1 ;;
esac
exec {command} "$@"
"""

USE = """
import torch, seqcells
torch.set_num_threads(2)
print(seqcells.backends()["cpu"])
model, inputs = seqcells.LSTM(40, 300), torch.randn(7, 2, 40)
results = []
for name in ("cpu", "reference"):
    with seqcells.backend(name):
        model.zero_grad()
        outputs, _ = model(inputs)
        outputs.square().sum().backward()
        results.append([outputs, *(parameter.grad for parameter in model.parameters())])
torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("command", ["g++", "clang++"])
def test_without_openmp_calls_run_in_one_thread(command, tmp_path):
    if shutil.which(command) is None:
        pytest.skip(f"needs {command}")
    wrapper = tmp_path / "c++"
    wrapper.write_text(COMPILER.format(command=command))
    wrapper.chmod(0o755)
    package = tmp_path / "package"
    unused = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "seqcells", package / "seqcells", ignore=unused)
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, package)
    environment = os.environ | {"CXX": str(wrapper), "CXXFLAGS": "-O0", "PYTHONPATH": str(package)}
    for arguments in (["setup.py", "-q", "build_ext", "--inplace"], ["-c", USE]):
        ended = subprocess.run(
            [sys.executable, *arguments],
            cwd=package,
            env=environment,
            capture_output=True,
            text=True,
            timeout=1000,
        )
        assert ended.returncode == 0, ended.stderr
    assert ended.stdout.rstrip().endswith(", 1 thread")


@pytest.fixture(scope="module")
def portable_tag():
    """Return the function of setup.py, without a build."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr("setuptools.setup", lambda **settings: None)
        return runpy.run_path("setup.py")["portable_tag"]


def names(*names):
    """Return the table of names of a library."""
    return b"\x7fELF\0" + b"".join(name.encode() + b"\0" for name in names)


@pytest.mark.parametrize(
    ("needed", "libc", "tag"),
    [
        (["libc.so.6", "GLIBC_2.2.5", "GLIBC_2.14"], "2.36", "manylinux_2_28_x86_64"),
        (["libstdc++.so.6", "GLIBCXX_3.4.24", "CXXABI_1.3.11"], "2.36", "manylinux_2_28_x86_64"),
        (["libgomp.so.1", "GOMP_4.0", "OMP_1.0"], "2.39", "manylinux_2_28_x86_64"),
        (["libc.so.6", "GLIBC_2.14"], "2.26", "manylinux_2_26_x86_64"),  # installs on this machine
        (["libc.so.6", "GLIBC_2.34"], "2.36", "manylinux_2_36_x86_64"),
        (["libstdc++.so.6", "GLIBCXX_3.4.30"], "2.39", "manylinux_2_39_x86_64"),
        (["libomp.so.5", "GLIBC_2.14"], "2.36", "linux_x86_64"),
        (["libasan.so.8", "GLIBC_2.14"], "2.36", "linux_x86_64"),
    ],
)
def test_the_tag_is_what_the_kernel_needs(portable_tag, needed, libc, tag):
    assert portable_tag(names(*needed), "linux_x86_64", "glibc", libc) == tag


def test_the_tag_without_glibc_is_that_of_the_machine(portable_tag):
    assert portable_tag(names("libc.so"), "linux_x86_64", "", "") == "linux_x86_64"
