"""Which module may import which: DESIGN's directions, read from the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import seqcells

PACKAGE = Path(seqcells.__file__).parent
ROOT = PACKAGE.parent

# What each part may import, besides itself. `seqcells` is the public core.
LEAVES = {"state", "sequences", "files"}
MAY_IMPORT = {
    "state": set(),
    "sequences": set(),
    "scan": {"sequences"},
    "files": set(),
    "kernels": set(),
    "noise": {"state"},
    "cells.base": {"noise", "state"},
    "cells": {"cells.base", "noise", "state"},
    "loop": {"noise", *LEAVES},
    "modified": {"cells.base", "noise", "state"},
    "backends": {"kernels"},
    "programs": {"cells.base", "kernels", "noise", "snapshots", "state"},
    "snapshots": {"kernels"},
    "dependencies": {"kernels", "snapshots"},
    "generate": {"dependencies", "programs", "cells.base", "kernels", "state"},
    "flow": {"recurrent", "stack", *LEAVES},
    "dispatch": {"backends", "cells.base", "generate", "kernels", "programs"},
    "unroll": {
        "cells.base",
        "backends",
        "dispatch",
        "programs",
        "kernels",
        "loop",
        "noise",
        "scan",
        *LEAVES,
    },
    "recurrent": {"unroll", "cells.base", "backends", "loop", "modified", "noise", *LEAVES},
    "layers": {"unroll", "cells", "cells.base", *LEAVES},
    "stack": {"recurrent", "cells.base", "noise", *LEAVES},
    "trace": {"recurrent", "layers", "cells.base", "loop", "modified", "noise", *LEAVES},
    "testing": {"recurrent", "unroll", *LEAVES},
    "init": {"cells"},
    "modifiers": {"modified", "cells.base", "noise", "state"},
    "text": {"files"},
    "model_config": {"seqcells"},
    "models": {"seqcells", "model_config", "sequences", "state"},
    "explanation": set(),
    "training": {"model_config", "models", "text", "files", "state"},
    "prediction": {"training", "explanation", "models", "text", "files"},
    "report": {
        "prediction",
        "training",
        "explanation",
        "models",
        "text",
        "seqcells",
        "files",
        "trace",
    },
    "export": {
        "seqcells",
        "cells.base",
        "modified",
        "recurrent",
        "models",
        "model_config",
        "text",
        "training",
        *LEAVES,
    },
    "cli": {"prediction", "export", "training", "report", "models", "text", "seqcells"},
    "train": {"training", "report", "models", "text", "seqcells"},
}
# The public names, gathered in one place that nothing below imports.
MAY_IMPORT["seqcells"] = {"cells", "init", "layers", "modifiers", "recurrent", "stack", "state"}
MAY_IMPORT["seqcells"] |= {"backends", "flow", "noise", "trace", "unroll"}

SOURCES = [*sorted(PACKAGE.rglob("*.py")), *sorted(ROOT.glob("train.py"))]


def dotted(path):
    if path.parent == ROOT:
        return path.stem
    return ".".join(("seqcells", *path.relative_to(PACKAGE).with_suffix("").parts))


def part(module):
    """The part of the house that a module of this name belongs to."""
    names = module.removeprefix("seqcells.").split(".")
    names = [name for name in names if name != "__init__"]
    if names[:2] in (["cells", "base"], ["cells", "linear"], ["cells", "checks"]):
        return "cells.base"
    return names[0] if names else "seqcells"


def imported(path):
    """Every module of the package that the file imports, at its top or inside a function.

    What only type checkers see is no dependency.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = [node for node in tree.body if isinstance(node, ast.If) and is_for_types(node)]
    for node in ast.walk(tree):
        if any(node in part.body for part in hidden):
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            names = [node.module]
            if node.module in ("seqcells", "seqcells.cells"):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                names = [name if is_module(name) else node.module for name in names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "seqcells")


def is_for_types(node):
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def is_module(name):
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


@pytest.mark.parametrize("path", SOURCES, ids=dotted)
def test_imports_run_one_way(path):
    own = part(dotted(path))
    assert own in MAY_IMPORT, f"say here what {own} may import"
    for name in imported(path):
        wanted = part(name)
        assert wanted == own or wanted in MAY_IMPORT[own], f"{own} imports {name}"


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
def test_a_cell_knows_no_other_cell(name):
    below = {"seqcells.cells.base", "seqcells.cells.checks", "seqcells.noise", "seqcells.state"}
    assert set(imported(PACKAGE / "cells" / f"{name}.py")) <= below


def test_the_rules_have_no_way_back():
    order, left = [], dict(MAY_IMPORT)
    while left:
        ready = [name for name, below in left.items() if not below & left.keys()]
        assert ready, f"a circle among {sorted(left)}"
        order += ready
        left = {name: below for name, below in left.items() if name not in ready}
    assert order.index("recurrent") > order.index("unroll") > order.index("kernels")


def test_this_test_sees_imports(tmp_path):
    source = tmp_path / "module.py"
    source.write_text("import torch\ndef f():\n    from seqcells import init, LSTM\n")
    assert list(imported(source)) == ["seqcells.init", "seqcells"]


GENERAL = ["unroll", "loop", "scan", "recurrent", "stack", "trace", "noise", "modifiers"]


@pytest.mark.parametrize("module", [*GENERAL, "cells.base", "cells.linear"])
def test_no_concrete_cell_is_named(module):
    path = PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {node.name for node in ast.walk(tree) if isinstance(node, ast.alias)}
    assert not names & {"RNNCell", "GRUCell", "LSTMCell", "LSTMState"}


def run(code):
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)


def test_the_core_needs_torch_alone():
    """With everything of the extras out of reach, the core imports and runs."""
    result = run(
        "import sys\n"
        "for name in ('numpy', 'torchtext', 'tqdm', 'jsonargparse', 'safetensors', 'yaml'):\n"
        "    sys.modules[name] = None\n"
        "import warnings; warnings.filterwarnings('ignore', message='Failed to initialize NumPy')\n"
        "import torch; before = torch.get_rng_state()\n"
        "import seqcells, seqcells.testing\n"
        "assert torch.equal(before, torch.get_rng_state()), 'the import draws random numbers'\n"
        "loaded = [m for m in sys.modules if m.startswith('seqcells.')]\n"
        "assert not [m for m in loaded if m.split('.')[1] in ('text', 'training', 'models')]\n"
        "out, _ = seqcells.LSTM(3, 4)(torch.randn(5, 2, 3), lengths=[5, 3])\n"
        "assert out.shape == (5, 2, 4)\n"
        "seqcells.testing.assert_parity(\n"
        "    seqcells.GRU(3, 4), torch.nn.GRU(3, 4), torch.randn(5, 2, 3))\n"
    )
    assert result.returncode == 0, result.stderr


def test_the_public_names_are_there():
    for name in seqcells.__all__:
        assert getattr(seqcells, name) is not None
    assert {"RNN", "GRU", "LSTM", "RNNCell", "GRUCell", "LSTMCell"} <= set(seqcells.__all__)
    assert {"Recurrent", "Stack", "trace", "detach_state", "init"} <= set(seqcells.__all__)


@pytest.mark.parametrize("path", SOURCES, ids=dotted)
def test_no_source_is_longer_than_300_lines(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300 or text.startswith("# Written by")
