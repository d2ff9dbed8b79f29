"""Test the guide: it builds, documents all public names, and quotes measured figures."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import seqcells
from seqcells import init

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)


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


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the guide; return its folder."""
    folder = tmp_path_factory.mktemp("site")
    result = build(folder)
    assert result.returncode == 0, result.stderr
    assert "WARNING" not in result.stderr
    return folder


@pytest.mark.slow
def test_build_has_all_pages_and_names(site):
    for page in (*DOCS.glob("*.md"), DOCS / "benchmarks" / "RESULTS.md"):
        assert (site / page.relative_to(DOCS).with_suffix(".html")).is_file(), page
    reference = (site / "api.html").read_text(encoding="utf-8")
    for name in seqcells.__all__:
        assert f'id="seqcells.{name}"' in reference, name


@pytest.mark.slow
def test_pages_fetch_nothing_and_have_a_dark_mode(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*? src=\"([^\"]*)", text)
        loaded += re.findall(r"<link [^>]*?rel=\"(?:stylesheet|preconnect)\"[^>]*", text)
        assert len(loaded) >= 3, page
        assert not [source for source in loaded if "//" in source], page
        media = re.findall(r'data-md-color-media="([^"]*)"', text)
        assert len(media) == 3, page
        assert 'data-md-color-scheme="slate"' in text


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason=f"needs one of {', '.join(NAMES)}")
def test_search_works_from_disk(site, tmp_path):
    flags = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}")
    found = {}
    for words in ("zoneout", "nothingofthatname"):
        url = f"{(site / 'index.html').as_uri()}?q={words}"
        command = [BROWSER, *flags, "--virtual-time-budget=10000", "--dump-dom", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        found[words] = re.findall(r'href="([^"]*)" class="md-search-result__link"', done.stdout)
    assert any(link.startswith(f"{site.as_uri()}/cells.html") for link in found["zoneout"])
    assert found["nothingofthatname"] == []


@pytest.mark.parametrize("picture", sorted(ROOT.glob("docs/*.svg")), ids=lambda path: path.name)
def test_pictures_have_a_background_for_dark_pages(picture):
    first = re.search(r"<path .*?/>", picture.read_text(encoding="utf-8"), re.DOTALL)
    assert 'style="fill: #ffffff"' in first[0]


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


def test_the_tables_of_the_adapters_are_measured():
    page = (DOCS / "adopt.md").read_text(encoding="utf-8")
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8").splitlines()
    libraries = ("sb3-contrib", "TorchRL", "Opacus")
    rows = [
        line for line in page.splitlines() if line.startswith(tuple(map("| {} ".format, libraries)))
    ]
    assert len({line.split("|")[1] for line in rows}) == len(libraries)
    assert set(rows) <= set(results)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_training_page(tmp_path):
    """Run its Python, and its commands but those of the section on IMDB, which take an hour."""
    text = (DOCS / "training.md").read_text(encoding="utf-8")
    program, gates = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    done = run([sys.executable, "-c", program], tmp_path)
    accuracy = float(re.search(r"test accuracy ([\d.]+)%", done)[1])
    assert accuracy > 95
    for name in ("train.py", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    programs = {"python": [sys.executable], "seqcells": [sys.executable, "-m", "seqcells.lab.cli"]}
    short, imdb = text.split("\n## IMDB\n")
    lines = "".join(re.findall(r"```sh\n(.*?)```", short, re.DOTALL)).splitlines()
    assert imdb.count("```sh") == imdb.count("aclImdb_v1.tar.gz")
    printed = []
    for line in lines:
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
