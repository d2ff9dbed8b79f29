"""Registration of public classes with `torch.load(weights_only=True)` and `torch.export.save`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from seqcells.compatibility import register_namedtuple

# `Stack` holds its layers in a `ModuleList`.
CONTAINERS = [nn.ModuleList]


def register(public: Iterable[Any]) -> None:
    """Register the modules and the NamedTuples among public objects.

    `torch.load(weights_only=True)` then accepts them, and programs that `torch.export.save` writes
    may return the NamedTuples.
    """
    kinds = [kind for kind in public if isinstance(kind, type)]
    tuples = [kind for kind in kinds if issubclass(kind, tuple)]
    modules = [kind for kind in kinds if issubclass(kind, nn.Module)]
    torch.serialization.add_safe_globals([*CONTAINERS, *modules, *tuples])
    for kind in tuples:
        register_namedtuple(kind)
