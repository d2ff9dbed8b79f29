"""Private and recent names of torch, with fallbacks for older versions.

torch 2.7 and later are supported. No other module of the core uses such names.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._C import _functorch as functorch
from torch._functorch import autograd_function
from torch._functorch.pyfunctorch import (
    retrieve_current_functorch_interpreter,
    temporarily_clear_interpreter_stack,
)
from torch.autograd import forward_ad
from torch.autograd.function import _SingleLevelFunction as SingleLevelFunction
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._python_dispatch import _disable_current_modes as without_modes

__all__ = ["SingleLevelFunction", "TorchDispatchMode", "functorch", "without_modes"]

Function = TypeVar("Function", bound=Callable[..., Any])
Record = TypeVar("Record", bound=tuple[Any, ...])

# Observers of operators.
dispatch_modes: Callable[[], int] = torch._C._len_torch_dispatch_stack
function_modes: Callable[[], int] = torch._C._len_torch_function_stack
is_profiled: Callable[[], bool] = torch._C._autograd._profiler_enabled
tracing_state: Callable[[], Any] = torch._C._get_tracing_state
without_functions: Callable[[], AbstractContextManager[Any]] = torch._C.DisableTorchFunction

# Transforms of torch.func, and forward-mode differentiation.
GRAD, VMAP = functorch.TransformType.Grad, functorch.TransformType.Vmap
are_transforms_active: Callable[[], bool] = torch._C._are_functorch_transforms_active
is_legacy_batched: Callable[[Tensor], bool] = functorch.is_legacy_batchedtensor
current_transform: Callable[[], Any] = retrieve_current_functorch_interpreter
without_transforms: Callable[[], AbstractContextManager[Any]] = temporarily_clear_interpreter_stack
# Allow functions that one reverse-mode differentiation records.
single_level: Any = vars(autograd_function)["enable_single_level_autograd_function"]
with_forward_gradients: Any = forward_ad._set_fwd_grad_enabled

# The guard of compiled graphs on tensors.
TensorGuards: Any = torch._C._dynamo.guards.TensorGuards

# Whether Dynamo accepts modules as arguments of functions marked with `assume_constant`.
_version: Any = torch.__version__
CONSTANT_MODULES: bool = _version >= (2, 13)

# Precision of float32 products on GPUs. torch 2.9 names it; before, TF32 was on or off.
_matmul: Any = torch.backends.cuda.matmul
_names_precision = hasattr(_matmul, "fp32_precision")

# Dispatch keys below autograd.
after_autograd: Any = torch._C._after_autograd_keyset

flatten_cudnn_weights: Any = torch._cudnn_rnn_flatten_weight


def is_forward_mode() -> bool:
    """Return whether forward-mode differentiation is active."""
    return forward_ad._current_level >= 0


def is_transformed() -> bool:
    """Return whether torch.func or forward-mode differentiation transforms the call."""
    return forward_ad._current_level >= 0 or are_transforms_active()


def assume_constant(function: Function) -> Function:
    """Mark a function that `torch.compile` calls at compile time instead of tracing it.

    Same as `torch.compiler.assume_constant_result`, without importing Dynamo, which takes a second.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@assume_constant
def has_autocast(device_type: str) -> bool:
    """Return whether devices of a type have autocast. Dynamo of torch 2.9 cannot trace the call."""
    return torch.amp.is_autocast_available(device_type)


def allows_tf32() -> bool:
    """Return whether products of float32 numbers may use TF32 on a GPU."""
    if not _names_precision:
        return bool(_matmul.allow_tf32)
    allowed = _matmul.fp32_precision
    if allowed == "none":  # not set for products: the general setting applies
        backends: Any = torch.backends
        allowed = backends.fp32_precision
    return bool(allowed == "tf32")


def replace(record: Record, **changes: Any) -> Record:
    """Return a NamedTuple with other fields. Dynamo of torch 2.7 cannot trace `_replace`."""
    kind: Any = type(record)
    changed: Record = kind(**{**dict(zip(kind._fields, record)), **changes})
    return changed


def register_namedtuple(kind: type) -> None:
    """Let exported programs return a NamedTuple of seqcells, and `torch.export.save` write it."""
    if kind not in _pytree.SUPPORTED_NODES:  # it is there if seqcells is reloaded
        name = f"seqcells.{kind.__name__}"
        _pytree._register_namedtuple(kind, serialized_type_name=name)


def register_flop_formulas(formulas: Sequence[tuple[Any, Callable[..., int]]]) -> None:
    """Register the formulas of operators with `torch.utils.flop_counter` once it is imported.

    The module imports Triton, which takes much longer than seqcells.
    """

    def register(flop_counter: ModuleType) -> None:
        for operator, formula in formulas:
            flop_counter.register_flop_formula(operator)(formula)

    name = "torch.utils.flop_counter"
    if name in sys.modules:
        register(sys.modules[name])
    else:
        sys.meta_path.insert(0, _AfterImport(name, register))


class _AfterImport(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module with its own loader, then runs an action on it."""

    def __init__(self, name: str, action: Callable[[ModuleType], None]) -> None:
        self.name, self.action = name, action
        self.loader: Any = None

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None:
            self.loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self.loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        spec: Any = module.__spec__
        spec.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        self.action(module)
