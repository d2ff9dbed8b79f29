"""Missing packages of the optional extras: one line with the remedy in place of a traceback.

Imports no package of an extra, because it runs before they are known to be there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seqcells.lab.failure import print_failure

ROOT = Path(__file__).resolve().parents[2]
MODULES = {  # of the packages that setup.cfg lists for each extra
    "train": {"torchtext", "numpy", "jsonargparse", "jinja2", "yaml", "sklearn", "scipy", "tqdm"},
    "export": {"onnx", "onnxruntime", "safetensors"},
}


def remedy(error: ModuleNotFoundError) -> str | None:
    """Return a line on a missing package of an extra, or None if the module is another one."""
    module = (error.name or "").partition(".")[0]
    for extra, modules in MODULES.items():
        if module in modules:
            return (
                f"expected the module {module}, which is not installed; "
                f"run: pip install '{_source()}[{extra}]'"
            )
    return None


def _source() -> str:
    """Return what pip installs: the path of the checkout that holds this file, or the name."""
    return os.path.relpath(ROOT) if (ROOT / "setup.cfg").is_file() else "seqcells"


@contextmanager
def packages_required() -> Iterator[None]:
    """Exit with status 2 and one line if an import within fails for a missing package of an extra.

    Other missing modules raise as usual.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        line = remedy(error)
        if line is None:
            raise
        print_failure(f"error: {line}")
        raise SystemExit(2) from None
