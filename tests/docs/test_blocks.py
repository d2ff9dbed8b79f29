"""Test that each Python block of the README and of the guide runs alone, in a fresh process."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from seqcells.lab.export import FORMATS, export_run
from seqcells.lab.model_config import ModelConfig
from seqcells.lab.models import build_model
from seqcells.lab.text.vocabulary import Vocabulary
from seqcells.lab.training import Config, Run
from seqcells.lab.training.checkpoints import save_checkpoint

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Slow: they train, compile a kernel, or read exported models; tests/export runs the last ones too.
LONG = ("optimizer.step()", "compile=True", '"model.', '"reader.')


def blocks(page):
    """Return the blocks with their line numbers, each after as many empty lines as precede it."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    starts = [(match[1], text[: match.start(1)].count("\n")) for match in found]
    return [(start + 1, "\n" * start + code) for code, start in starts]


BLOCKS = [
    pytest.param(
        page.name,
        code,
        id=f"{page.name}:{line}",
        marks=[pytest.mark.slow] if any(part in code for part in LONG) else [],
    )
    for page in PAGES
    for line, code in blocks(page)
]


@pytest.fixture(scope="module")
def server():
    """Start the process that forks for each block."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", Path(__file__).with_name("fork_server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    with process:
        yield process
        process.stdin.close()


@pytest.fixture
def run(server, tmp_path, monkeypatch):
    """Return a function that runs code in an empty folder."""

    def run(code, name="block"):
        request = {"code": code, "name": name, "folder": str(tmp_path)}
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        return json.loads(server.stdout.readline())

    return run


def prepare(code, folder):
    """Add the run or the exported models that a block reads, with an untrained model."""
    for path in re.findall(r'"(runs/\w+)"', code):
        make_run(folder / path)
    if '"reader.onnx"' in code:
        run = make_run(folder / "reader")
        export_run(run.folder, "onnx", folder / "reader.onnx", stateful=True)
    if '"model.' in code:
        run = make_run(folder / "exported", num_layers=2, bidirectional=True)
        for format in FORMATS.keys() - {"c"}:
            export_run(run.folder, format, folder / f"model{FORMATS[format].suffix}")


def make_run(folder, **settings):
    sizes = {"embedding_size": 5, "hidden_size": 4}  # as in export.md
    run = Run.create(Config(model=ModelConfig(**sizes, **settings), run=str(folder)), "unused")
    vocabulary = Vocabulary(["<pad>", "<unk>", "it", "is", "good", "bad"], [(r"\.", " . ")])
    run.begin(vocabulary)
    model = build_model(run.config.model, len(vocabulary.words))
    save_checkpoint(run.best, run.config, {"model": model.state_dict()})
    return run


@pytest.mark.parametrize(("page", "code"), BLOCKS)
def test_block_runs_alone(run, page, code, tmp_path, monkeypatch):
    monkeypatch.setenv("SEQCELLS_CACHE", str(tmp_path / "cache"))
    prepare(code, tmp_path)
    done = run(code, page)
    assert done["status"] == 0, done["output"]
    print(done["output"])
    for shown in re.findall(r"^print\(.*\)  # (\S.*[\])])$", code, re.MULTILINE):
        assert shown in done["output"].splitlines()


@pytest.mark.slow
def test_the_cell_of_the_guide_learns(run):
    (code,) = (code for _, code in blocks(ROOT / "docs" / "own_cell.md") if LONG[0] in code)
    *_, last = run(code)["output"].split()
    assert float(last) < 0.01


def test_blocks_do_not_see_each_other(run):
    assert run("import torch\nx = 1\ntorch.manual_seed(1)\ntorch.planted = 1")["status"] == 0
    assert "NameError: name 'x' is not defined" in run("print(x)")["output"]
    assert "AttributeError" in run("import torch\ntorch.planted")["output"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("seqcells.LSTM(1, 2)", "NameError: name 'seqcells' is not defined"),
        ("import warnings\nwarnings.warn('x')", "UserWarning: x"),
        ("raise SystemExit(0)", "SystemExit"),
    ],
)
def test_failing_blocks_are_reported(run, code, message):
    done = run(code, "page.md")
    assert done["status"] == 1
    assert message in done["output"]
    assert 'File "page.md", line' in done["output"]


def test_pages_have_python_blocks():
    assert len(blocks(PAGES[0])) >= 4
    assert len(PAGES) >= 11
    assert sum(bool(blocks(page)) for page in PAGES) >= 9
    assert len(BLOCKS) >= 30
