"""Test the guide: it builds, documents all public names, and quotes measured figures."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import seqcells
from seqcells import init

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def build(folder, config="mkdocs.yml"):
    command = [sys.executable, "-m", "mkdocs", "build", "--config-file", config]
    return subprocess.run(
        [*command, "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        timeout=280,
    )


@pytest.mark.slow
def test_build_and_links(tmp_path):
    result = build(tmp_path)
    assert result.returncode == 0, result.stderr
    assert "WARNING" not in result.stderr
    for page in (*DOCS.glob("*.md"), DOCS / "benchmarks" / "RESULTS.md"):
        assert (tmp_path / page.relative_to(DOCS).with_suffix(".html")).is_file(), page
    reference = (tmp_path / "api.html").read_text(encoding="utf-8")
    for name in seqcells.__all__:
        assert f'id="seqcells.{name}"' in reference, name


@pytest.mark.slow
@pytest.mark.parametrize(
    "added", ["[a](nowhere.md)", "[a](over_time.md#nowhere)", "\n::: seqcells.nowhere"]
)
def test_unresolved_links_fail(tmp_path, added):
    """Build a copy with a changed index."""
    for name in ("docs", "benchmarks", "mkdocs.yml", "seqcells"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "docs").unlink()
    (tmp_path / "docs").mkdir()
    for path in DOCS.iterdir():
        if path.is_file():
            (tmp_path / "docs" / path.name).write_bytes(path.read_bytes())
    with (tmp_path / "docs" / "index.md").open("a") as file:
        file.write(f"\n{added}\n")
    result = build(tmp_path / "site", str(tmp_path / "mkdocs.yml"))
    assert result.returncode != 0
    assert "nowhere" in result.stderr


def test_the_reference_lists_all_public_names():
    listed = set(re.findall(r"^::: seqcells\.(\w+)$", (DOCS / "api.md").read_text(), re.MULTILINE))
    assert listed == set(seqcells.__all__)
    functions = [name for name in vars(init) if name.endswith("_") and not name.startswith("_")]
    assert functions
    assert f"members: [{', '.join(functions)}]" in (DOCS / "api.md").read_text()


def test_every_cell_and_modifier_is_documented():
    text = (DOCS / "cells.md").read_text(encoding="utf-8")
    cells = [name for name in seqcells.__all__ if name.endswith("Cell")]
    modifiers = ["Zoneout", "VariationalDropout", "RecurrentDropout", "DropConnect", "LearnedState"]
    for name in {*cells, *modifiers} - {"Cell", "GatedCell", "LinearCell"}:
        assert f"`{name}" in text, name


def test_speed_quotes_measured_figures():
    page = (DOCS / "speed.md").read_text(encoding="utf-8")
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len(rows) > 6
    for row in rows:
        assert row in results.splitlines(), row
    known = set(re.findall(r"\d+\.\d+(?:e-\d+)?", results))
    figures = re.findall(r"\d+\.\d+(?:e-\d+)?", page)
    assert len(figures) > 40
    assert set(figures) <= known


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_training_page(tmp_path):
    """Run its Python, and its commands except the last one, which reads IMDB."""
    text = (DOCS / "training.md").read_text(encoding="utf-8")
    program, gates = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    done = run([sys.executable, "-c", program], tmp_path)
    accuracy = float(re.search(r"test accuracy ([\d.]+)%", done)[1])
    assert accuracy > 95
    for name in ("train.py", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    programs = {"python": [sys.executable], "seqcells": [sys.executable, "-m", "seqcells.lab.cli"]}
    lines = "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines()
    printed = []
    for line in lines[:-1]:
        program, *arguments = shlex.split(line)
        printed.append(run([*programs[program], *arguments], tmp_path))
    positive, negative = printed[1].splitlines()
    assert float(positive.split()[0]) > 0.9
    assert float(negative.split()[0]) < 0.1
    assert float(re.search(r"accuracy ([\d.]+)%", printed[2])[1]) > 99
    gates += "print(tuple(gates['forget'].shape[1:]))"
    assert run([sys.executable, "-c", gates], tmp_path) == "(1, 64)\n"


def run(command, folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=environment, timeout=600
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
