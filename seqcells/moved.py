"""Deprecated import names of the application's packages from before 0.1.0."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {"cli", "explanation", "export", "files", "model_config", "models", "prediction", "report"}
MOVED |= {"text", "training"}


class Finder(MetaPathFinder, Loader):
    """Import `seqcells.lab.text` for `seqcells.text`, and so on, with a deprecation warning."""

    def __init__(self) -> None:
        self.specs: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, rest = name.partition(".")
        if package != "seqcells" or rest.split(".")[0] not in MOVED:
            return None
        return ModuleSpec(name, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = spec.name.replace("seqcells.", "seqcells.lab.", 1)
        warnings.warn(
            f"{spec.name} is now {new}; the old name will be removed in 0.2",
            DeprecationWarning,
            stacklevel=2,
        )
        module = import_module(new)
        self.specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the module's own spec. It was already executed under its new name."""
        if module.__spec__ is not None:
            module.__spec__ = self.specs.pop(module.__spec__.name)


def redirect_old_names() -> None:
    """Install the finder for old names first, so that no other finder loads a submodule twice."""
    sys.meta_path.insert(0, Finder())
