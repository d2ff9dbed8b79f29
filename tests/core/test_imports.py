"""Rules that the source keeps: who imports whom, file sizes, and names.

Each rule is one test, and its message lists the files that break it.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import seqcells

PACKAGE = Path(seqcells.__file__).parent
ROOT = PACKAGE.parent

# The parts that each part may import directly; `seqcells` is the public core.
LEAVES = {"state", "sequences"}
BELOW = {
    "compatibility": set(),
    "state": {"compatibility"},
    "sequences": {"compatibility"},
    "validation": LEAVES,
    "noise": {"validation"},
    "parametrized": set(),
    "ragged": LEAVES,
    "serialization": {"compatibility"},
    "equations": {"noise"},
    "kernels": {"equations"},
    "recurrence": {"kernels"},
    "cells": {"recurrence"},
    "modifiers": {"cells"},
    "recurrent": {"modifiers"},
    "layers": {"cells", "parametrized", "ragged"},
    "stack": {"recurrent"},
    "streams": {"layers", "stack"},
    "quantization": {"layers", "modifiers"},
    "init": {"cells"},
    "moved": set(),
    "inspect": {"layers", "stack"},
    "testing": {"inspect"},
    "seqcells": {"inspect", "init", "moved", "quantization", "serialization", "streams"},
    "adapters": {"seqcells"},
    "lab": {"seqcells", "testing"},
    "train": {"lab"},
}


def all_below(own):
    """Return all parts that a part may import, directly or through others."""
    return BELOW[own].union(*(all_below(name) for name in BELOW[own]))


SOURCES = [*sorted(PACKAGE.rglob("*.py")), *sorted(ROOT.glob("train.py"))]


def dotted(path):
    if path.parent == ROOT:
        return path.stem
    return ".".join(("seqcells", *path.relative_to(PACKAGE).with_suffix("").parts))


def part(module):
    """Return the part that a module of this name belongs to."""
    names = module.removeprefix("seqcells.").split(".")
    names = [name for name in names if name != "__init__"]
    return names[0] if names else "seqcells"


def imported(path):
    """Yield each module of the package that the file imports, at its top or inside a function.

    Imports under `TYPE_CHECKING` do not count.
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


def test_every_part_has_its_rule():
    parts = {part(dotted(path)) for path in SOURCES}
    assert parts <= set(BELOW), f"add to BELOW what these may import: {sorted(parts - set(BELOW))}"


def test_imports_run_one_way():
    wrong = [
        f"{dotted(path)} imports {name}"
        for path in SOURCES
        for own in [part(dotted(path))]
        for name in imported(path)
        if part(name) not in all_below(own) | {own}
    ]
    assert not wrong


def private_names_of_torch(tree):
    """Yield the names that begin with an underscore, or are below one that does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "torch":
            paths = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            paths = [ast.unparse(node)]
        else:
            continue
        for path in paths:
            first, *rest = path.removeprefix("torch.ops.seqcells.").split(".")
            if first in ("torch", "forward_ad") and any(
                name.startswith("_") and not name.startswith("__") for name in rest
            ):
                yield path


def test_private_names_of_torch_are_in_one_module():
    """Other versions of torch may lack them (`seqcells.compatibility`)."""
    core = [path for path in SOURCES if part(dotted(path)) not in ("lab", "adapters", "train")]
    trees = {dotted(path): ast.parse(path.read_text(encoding="utf-8")) for path in core}
    found = {name: set(private_names_of_torch(tree)) for name, tree in trees.items()}
    assert found.pop("seqcells.compatibility")
    assert {name: names for name, names in found.items() if names} == {}


@pytest.mark.parametrize("first", ["torch.utils.flop_counter", "seqcells"])
def test_triton_and_the_flop_counter_are_imported_on_demand(first):
    result = run(
        f"import sys, torch; import {first}; import seqcells\n"
        f"expected = {first != 'seqcells'}\n"
        "assert ('torch.utils.flop_counter' in sys.modules) is expected\n"
        "assert expected or 'triton' not in sys.modules\n"
        "from torch.utils import flop_counter\n"
        "assert type(flop_counter.__loader__).__module__ != 'seqcells.compatibility'\n"
        "finders = [f for f in sys.meta_path if type(f).__module__ == 'seqcells.compatibility']\n"
        "assert not finders\n"
        "with torch.no_grad(), flop_counter.FlopCounterMode(display=False) as counter:\n"
        "    seqcells.Recurrent(seqcells.GRUCell(10, 20))(torch.randn(7, 3, 10))\n"
        "assert counter.get_total_flops() == 2 * 7 * 3 * 3 * 20 * (10 + 20)\n"
    )
    assert result.returncode == 0, result.stderr


def test_a_cell_imports_no_other_cell():
    allowed = {f"seqcells.cells.{part}" for part in ("base", "checks", "concatenated")}
    wrong = [
        f"{name} imports {other}"
        for name in ("rnn", "gru", "lstm")
        for other in imported(PACKAGE / "cells" / f"{name}.py")
        if ".cells." in other and other not in allowed
    ]
    assert not wrong


def test_imports_have_no_cycle():
    below = {dotted(path).removesuffix(".__init__"): set(imported(path)) for path in SOURCES}
    below["seqcells"] = {name for name in below["seqcells"] if ".lab" not in name}  # load()
    below = {name: {other for other in found if other in below} for name, found in below.items()}
    while below:
        ready = [name for name, found in below.items() if not found & below.keys()]
        assert ready, f"a cycle among {sorted(below)}"
        below = {name: found for name, found in below.items() if name not in ready}


def test_imports_inside_functions_are_found(tmp_path):
    source = tmp_path / "module.py"
    source.write_text("import torch\ndef f():\n    from seqcells import init, LSTM\n")
    assert list(imported(source)) == ["seqcells.init", "seqcells"]


GENERAL = [
    "recurrence.compute",
    "recurrence.choice",
    "recurrence.loop",
    "recurrence.scan",
    "recurrent",
    "stack",
]
GENERAL += ["inspect.trace", "noise", "modifiers.dropout", "modifiers.zoneout"]
GENERAL += ["cells.base", "cells.linear"]


def names_in(module):
    path = PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return names | {node.name for node in ast.walk(tree) if isinstance(node, ast.alias)}


def test_general_code_names_no_concrete_cell():
    concrete = {"RNNCell", "GRUCell", "LSTMCell", "LSTMState"}
    named = {module: names_in(module) & concrete for module in GENERAL}
    assert {module: names for module, names in named.items() if names} == {}


def run(code):
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)


def test_the_core_needs_torch_alone():
    """The core imports and runs without the packages of the extras.

    The first call loads the kernel.
    """
    result = run(
        "import sys\n"
        "for name in ('numpy', 'torchtext', 'tqdm', 'jsonargparse', 'safetensors', 'yaml',\n"
        "    'opacus', 'sb3_contrib', 'torchrl', 'lightning', 'accelerate'):\n"
        "    sys.modules[name] = None\n"
        "import warnings; warnings.filterwarnings('ignore', message='Failed to initialize NumPy')\n"
        "import torch; before = torch.get_rng_state()\n"
        "import seqcells, seqcells.testing\n"
        "warnings.filterwarnings('ignore', category=seqcells.MissingKernelWarning)\n"
        "assert torch.equal(before, torch.get_rng_state()), 'the import draws random numbers'\n"
        "loaded = [m for m in sys.modules if m.startswith('seqcells.')]\n"
        "assert not [m for m in loaded if m.split('.')[1] == 'lab']\n"
        "from seqcells.kernels import cpu\n"
        "assert not cpu.library.library.cache_info().currsize\n"
        "out, _ = seqcells.LSTM(3, 4)(torch.randn(5, 2, 3), lengths=[5, 3])\n"
        "assert cpu.unavailable() or cpu.library.library.cache_info().currsize\n"
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


def test_no_source_is_longer_than_300_lines():
    texts = {dotted(path): path.read_text(encoding="utf-8") for path in SOURCES}
    by_hand = {name: text for name, text in texts.items() if not text.startswith("# Written by")}
    assert [name for name, text in by_hand.items() if len(text.splitlines()) > 300] == []


def test_the_application_is_found_by_its_old_names():
    result = run(
        "import warnings, importlib\n"
        "for name in ('text', 'training.runs'):\n"
        "    with warnings.catch_warnings(record=True) as caught:\n"
        "        warnings.simplefilter('always')\n"
        "        old = importlib.import_module(f'seqcells.{name}')\n"
        "    assert any('is now seqcells.lab' in str(w.message) for w in caught), name\n"
        "    new = importlib.import_module(f'seqcells.lab.{name}')\n"
        "    assert old is new and new.__spec__.name == new.__name__, new.__spec__\n"
    )
    assert result.returncode == 0, result.stderr
