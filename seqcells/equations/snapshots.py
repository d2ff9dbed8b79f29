"""Snapshots of the values that equations read, and checks for values that have no snapshot."""

from __future__ import annotations

import builtins
import math
import types
from typing import Any, Generic

import torch
from torch import Tensor, nn

from seqcells.equations.program import UntraceableError

PLAIN_TYPES = (bool, int, float, complex, str, bytes, type(None), type(...))
IMMUTABLE = (torch.dtype, torch.device, torch.layout, torch.memory_format)
PURE_BUILTINS = {  # builtins whose result depends only on their arguments
    getattr(builtins, name)
    for name in (
        *("abs", "all", "any", "bool", "dict", "divmod", "enumerate", "filter", "float", "int"),
        *("isinstance", "issubclass", "len", "list", "map", "max", "min", "pow", "range"),
        *("reversed", "round", "slice", "sorted", "str", "sum", "tuple", "type", "zip"),
    )
}
# Modules of torch's operations. Other modules of torch, and functions with a prefix in `STATEFUL`,
# depend on global state.
OPERATION_MODULES = ("torch", "torch.nn.functional", "torch.special", "torch.linalg")
STATEFUL = (
    *("_", "is_", "get_", "set_", "use_", "rand", "seed", "initial_seed", "manual_seed", "dropout"),
    *("alpha_dropout", "bernoulli", "multinomial", "normal", "no_grad", "enable_grad"),
    *("inference_mode", "compile", "autocast", "from_numpy", "load", "save"),
)
STATELESS = ("is_tensor", "is_floating_point", "is_nonzero", "is_same_size")
# Attributes of tensors that may differ between recording and running.
UNRECORDABLE = {
    *("dtype", "device", "layout", "grad", "grad_fn", "requires_grad", "is_leaf", "is_cuda"),
    *("is_cpu", "data_ptr", "storage", "untyped_storage", "stride", "is_contiguous", "_version"),
    *("get_device", "names", "item", "tolist", "numpy", "data", "retain_grad", "register_hook"),
    *("__class__", "__dict__"),
}
# Methods that modify their object.
MUTATING = {
    *("append", "appendleft", "extend", "insert", "pop", "popitem", "popleft", "remove", "clear"),
    *("setdefault", "update", "discard", "send", "throw", "__setattr__", "__setitem__", "__next__"),
    *("add_", "register_buffer", "register_parameter", "write", "writelines"),
}


def snapshot(name: str, value: Any) -> Any:
    """Return an object that equals a later snapshot only if the value is unchanged.

    Raises:
        UntraceableError: changes of the value cannot be detected.
    """
    if isinstance(value, types.FunctionType):
        defaults = [value.__defaults__, value.__kwdefaults__]
        return Identity(value), value.__code__, _snapshot_data(f"{name}, defaults", defaults)
    if isinstance(value, staticmethod):
        return snapshot(name, value.__func__)
    if isinstance(value, property):
        return snapshot(name, value.fget)
    if isinstance(value, nn.Module) and _is_activation(value):
        plain = [(key, part) for key, part in vars(value).items() if key[0] != "_"]
        return Identity(value), [_snapshot_data(f"{name}.{key}", part) for key, part in plain]
    if (isinstance(value, types.BuiltinFunctionType) and _is_pure(value)) or (
        isinstance(value, type) and (value in PURE_BUILTINS or is_plain_class(value))
    ):
        return Identity(value)
    return _snapshot_data(name, value)


def _snapshot_data(name: str, value: Any) -> Any:
    """Return the snapshot of plain data. Functions are not allowed in containers."""
    kind = type(value)
    if kind in PLAIN_TYPES:
        return kind, repr(value)  # distinguishes 0.0 from -0.0, and equates nan
    if kind in (tuple, list) or (isinstance(value, tuple) and is_plain_class(kind)):
        return kind, [_snapshot_data(f"{name}[{n}]", part) for n, part in enumerate(value)]
    if kind is dict:
        return kind, [
            (_snapshot_data(name, key), _snapshot_data(f"{name}[{key!r}]", part))
            for key, part in value.items()
        ]
    if isinstance(value, Tensor) and _package(kind.__module__) == "torch":
        return kind, value.shape  # tracing rejects tensors that are not parameters
    if kind in IMMUTABLE:
        return Identity(value)
    raise UntraceableError(
        f"{name}: changes of a {kind.__name__} cannot be detected; use numbers, strings, tuples, "
        "lists and dicts of them, parameters, or functions"
    )


class Identity:
    """Compares a value by identity."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and self.value is other.value

    __hash__ = None  # type: ignore[assignment]


def check_attributes(name: str, path: list[str]) -> None:
    """Raise for attributes that modify their object or may differ between tensors."""
    for attribute in path:
        if attribute in MUTATING:
            raise UntraceableError(f"{name} calls .{attribute}(), which modifies its object")
        if attribute in UNRECORDABLE:
            raise UntraceableError(
                f"{name} reads .{attribute}, which may differ between recording and running"
            )


def check_module(name: str, module: types.ModuleType, attribute: str) -> None:
    """Raise for functions of torch whose result may differ for equal arguments."""
    if _package(module.__name__) != "torch":
        return
    value = getattr(module, attribute, None)
    if isinstance(value, types.ModuleType):
        if value.__name__ not in (*OPERATION_MODULES, "torch.nn"):
            raise UntraceableError(f"{name} is not a module of torch operations")
    elif callable(value) and (_is_stateful(attribute) or module.__name__ not in OPERATION_MODULES):
        why = "turns gradients off" if "grad" in attribute else "may differ between calls"
        raise UntraceableError(f"{name} {why}")


def _package(module: str | None) -> str:
    """Return the top-level package of a module; functions from exec may have no module."""
    return (module or "").partition(".")[0]


def _is_stateful(name: str) -> bool:
    return name.startswith(STATEFUL) and name not in STATELESS


def _is_pure(function: types.BuiltinFunctionType) -> bool:
    """Return whether the result depends only on the arguments."""
    owner = function.__self__
    if owner is not None and not isinstance(owner, types.ModuleType):
        return False
    if _package(function.__module__) == "torch":
        return not _is_stateful(function.__name__)
    return function in PURE_BUILTINS or function.__module__ in (math.__name__, "_operator")


def is_plain_class(kind: type) -> bool:
    """Return whether the class is an exception, or a tuple or NamedTuple without own methods."""
    if not issubclass(kind, tuple):
        return issubclass(kind, BaseException)
    known = {*getattr(kind, "_fields", ()), "_fields", "_field_defaults", "_make", "_replace"}
    for base in kind.__mro__:
        for name, value in {} if base in (tuple, object, Generic) else vars(base).items():
            if name in ("__annotate__", "__annotate_func__"):  # Python 3.14: computes annotations
                continue
            function = getattr(value, "__func__", getattr(value, "fget", value))
            module = getattr(function, "__module__", None) or ""
            if isinstance(function, types.FunctionType) and not module.startswith(
                ("collections", "namedtuple_")
            ):
                return False
            if name not in known and name != "_asdict" and not name.startswith("__"):
                return False
    return True


def is_trusted(function: types.FunctionType) -> bool:
    """Return whether a function of torch or of this package is not followed."""
    trusted = _package(function.__module__) in ("torch", "seqcells")
    return trusted and not _is_stateful(function.__name__)


def _is_activation(module: nn.Module) -> bool:
    hooks = (part for key, part in vars(module).items() if key.endswith("_hooks"))
    return type(module).__module__ == "torch.nn.modules.activation" and not any(hooks)


def is_method(value: Any) -> bool:
    return isinstance(value, (types.FunctionType, staticmethod, classmethod, property))


def is_stored(value: Any, attribute: str) -> bool:
    """Return whether an object stores this attribute in its `__dict__` and does not compute it."""
    kind = type(value)
    getter = class_attribute(kind, "__getattribute__")
    if getter not in (vars(base)["__getattribute__"] for base in (object, types.SimpleNamespace)):
        return False
    if hasattr(kind, "__getattr__"):
        return False
    computed = hasattr(class_attribute(kind, attribute), "__get__")
    return attribute in getattr(value, "__dict__", {}) and not computed


def class_attribute(kind: type, attribute: str) -> Any:
    """Return an attribute from the class without binding it; None if it does not exist."""
    return next((vars(base)[attribute] for base in kind.__mro__ if attribute in vars(base)), None)
