"""Snapshots of the values that equations read, and the values that no snapshot can hold."""

from __future__ import annotations

import builtins
import math
import types
from typing import Any, Generic

import torch
from torch import Tensor, nn

from seqcells.equations.program import UntraceableError

PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...))
IMMUTABLE = (torch.dtype, torch.device, torch.layout, torch.memory_format)
FUNCTIONS = {  # builtins whose result depends on their arguments alone
    getattr(builtins, name)
    for name in (
        *("abs", "all", "any", "bool", "dict", "divmod", "enumerate", "filter", "float", "int"),
        *("isinstance", "issubclass", "len", "list", "map", "max", "min", "pow", "range"),
        *("reversed", "round", "slice", "sorted", "str", "sum", "tuple", "type", "zip"),
    )
}
# Where torch's operations are. Elsewhere, and by these names, torch has state of the process.
OPERATIONS = ("torch", "torch.nn.functional", "torch.special", "torch.linalg")
STATEFUL = (
    *("_", "is_", "get_", "set_", "use_", "rand", "seed", "initial_seed", "manual_seed", "dropout"),
    *("alpha_dropout", "bernoulli", "multinomial", "normal", "no_grad", "enable_grad"),
    *("inference_mode", "compile", "autocast", "from_numpy", "load", "save"),
)
PURE = ("is_tensor", "is_floating_point", "is_nonzero", "is_same_size")
# Attributes of tensors that a recording cannot know, and methods that change what they belong to.
UNKNOWN = {
    *("dtype", "device", "layout", "grad", "grad_fn", "requires_grad", "is_leaf", "is_cuda"),
    *("is_cpu", "data_ptr", "storage", "untyped_storage", "stride", "is_contiguous", "_version"),
    *("get_device", "names", "item", "tolist", "numpy", "data", "retain_grad", "register_hook"),
    *("__class__", "__dict__"),
}
CHANGING = {
    *("append", "appendleft", "extend", "insert", "pop", "popitem", "popleft", "remove", "clear"),
    *("setdefault", "update", "discard", "send", "throw", "__setattr__", "__setitem__", "__next__"),
    *("add_", "register_buffer", "register_parameter", "write", "writelines"),
}


def snapshot(name: str, value: Any) -> Any:
    """Return a value that equals another snapshot only if nothing that can be read has changed.

    Raises:
        UntraceableError: a value that may change without being another.
    """
    if isinstance(value, types.FunctionType):
        defaults = [value.__defaults__, value.__kwdefaults__]
        return Same(value), value.__code__, _contents(f"{name}, defaults", defaults)
    if isinstance(value, staticmethod):
        return snapshot(name, value.__func__)
    if isinstance(value, property):
        return snapshot(name, value.fget)
    if isinstance(value, nn.Module) and _is_activation(value):
        plain = [(key, part) for key, part in vars(value).items() if key[0] != "_"]
        return Same(value), [_contents(f"{name}.{key}", part) for key, part in plain]
    if (isinstance(value, types.BuiltinFunctionType) and _is_pure(value)) or (
        isinstance(value, type) and (value in FUNCTIONS or is_plain_class(value))
    ):
        return Same(value)
    return _contents(name, value)


def _contents(name: str, value: Any) -> Any:
    """Return the snapshot of a value in a container, where functions are refused."""
    kind = type(value)
    if kind in PLAIN:
        return kind, repr(value)  # tells 0.0 from -0.0, and nan is nan
    if kind in (tuple, list) or (isinstance(value, tuple) and is_plain_class(kind)):
        return kind, [_contents(f"{name}[{n}]", part) for n, part in enumerate(value)]
    if kind is dict:
        return kind, [
            (_contents(name, key), _contents(f"{name}[{key!r}]", part))
            for key, part in value.items()
        ]
    if isinstance(value, Tensor) and _package(kind.__module__) == "torch":
        return kind, value.shape  # the recorder knows parameters, and refuses other tensors
    if kind in IMMUTABLE:
        return Same(value)
    raise UntraceableError(
        f"{name}: a {kind.__name__} may change unnoticed; use numbers, strings, tuples, lists and "
        "dicts of them, parameters, and functions"
    )


class Same:
    """Equal to itself by identity alone."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    __hash__ = None  # type: ignore[assignment]


def check_attributes(name: str, path: list[str]) -> None:
    """Refuse attributes of unknown objects that change them, or that differ between tensors."""
    for attribute in path:
        if attribute in CHANGING:
            raise UntraceableError(f"{name} calls .{attribute}(), which changes something")
        if attribute in UNKNOWN:
            raise UntraceableError(
                f"{name} reads .{attribute}, which may differ where the recording is run"
            )


def check_module(name: str, module: types.ModuleType, attribute: str) -> None:
    """Refuse what may give another result for the same arguments in torch's modules."""
    if _package(module.__name__) != "torch":
        return
    value = getattr(module, attribute, None)
    if isinstance(value, types.ModuleType):
        if value.__name__ not in (*OPERATIONS, "torch.nn"):
            raise UntraceableError(f"{name} is outside of torch's operations")
    elif callable(value) and (_is_stateful(attribute) or module.__name__ not in OPERATIONS):
        why = "turns gradients off" if "grad" in attribute else "may differ from call to call"
        raise UntraceableError(f"{name} {why}")


def _package(module: str | None) -> str:
    """Return the package of a module's name; a function from a string has none."""
    return (module or "").partition(".")[0]


def _is_stateful(name: str) -> bool:
    return name.startswith(STATEFUL) and name not in PURE


def _is_pure(function: types.BuiltinFunctionType) -> bool:
    """Whether its result depends on its arguments alone."""
    owner = function.__self__
    if owner is not None and not isinstance(owner, types.ModuleType):
        return False
    if _package(function.__module__) == "torch":
        return not _is_stateful(function.__name__)
    return function in FUNCTIONS or function.__module__ in (math.__name__, "_operator")


def is_plain_class(kind: type) -> bool:
    """Whether it is an exception, or a tuple or NamedTuple with nothing but its fields."""
    if not issubclass(kind, tuple):
        return issubclass(kind, BaseException)
    known = {*getattr(kind, "_fields", ()), "_fields", "_field_defaults", "_make", "_replace"}
    for base in kind.__mro__:
        for name, value in {} if base in (tuple, object, Generic) else vars(base).items():
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
    """Whether a function of torch or of this package is taken as it is."""
    ours = _package(function.__module__) in ("torch", "seqcells")
    return ours and not _is_stateful(function.__name__)


def _is_activation(module: nn.Module) -> bool:
    hooks = (part for key, part in vars(module).items() if key.endswith("_hooks"))
    return type(module).__module__ == "torch.nn.modules.activation" and not any(hooks)


def is_method(value: Any) -> bool:
    return isinstance(value, (types.FunctionType, staticmethod, classmethod, property))


def holds(value: Any, attribute: str) -> bool:
    """Whether an object holds this attribute itself, and nothing computes it."""
    kind = type(value)
    own = static(kind, "__getattribute__")
    if own not in (vars(base)["__getattribute__"] for base in (object, types.SimpleNamespace)):
        return False
    if hasattr(kind, "__getattr__"):
        return False
    computed = hasattr(static(kind, attribute), "__get__")
    return attribute in getattr(value, "__dict__", {}) and not computed


def static(kind: type, attribute: str) -> Any:
    """Return the attribute as the class has it, a method unbound; None without one."""
    return next((vars(base)[attribute] for base in kind.__mro__ if attribute in vars(base)), None)
