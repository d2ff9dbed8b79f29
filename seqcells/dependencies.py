"""What a cell's `activate` reads besides its arguments, found in its bytecode.

A recording of `activate` holds as long as everything that it read is unchanged: numbers, strings
and flags, also in tuples, lists and dicts, on the cell, its class, modules, in closures and
defaults, and the functions that it calls. `Dependencies.of` follows each name and attribute to its
value; `snapshot` reads these values again. Whatever cannot be followed, or may change while
`activate` runs, raises an `UntraceableError`: such a cell is not recorded.
"""

from __future__ import annotations

import builtins
import dis
import math
import types
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from seqcells.kernels.program import UntraceableError

NAMES = (tuple, BaseException)  # classes of plain results
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
STATEFUL: tuple[str, ...] = (
    "is_",
    "get_",
    "set_",
    "use_",
    "_",
    "rand",
    "seed",
    "initial_seed",
    "manual_seed",
)
STATEFUL += ("bernoulli", "multinomial", "normal", "dropout", "alpha_dropout", "no_grad")
STATEFUL += ("enable_grad", "inference_mode", "compile", "autocast", "from_numpy", "load", "save")
PURE = ("is_tensor", "is_floating_point", "is_nonzero", "is_same_size")
# Attributes of tensors that a recording cannot know, and methods that change what they belong to.
UNKNOWN = {
    *("dtype", "device", "layout", "grad", "grad_fn", "requires_grad", "is_leaf", "is_cuda"),
    *("is_cpu", "data_ptr", "storage", "untyped_storage", "stride", "is_contiguous", "_version"),
    *("get_device", "names", "item", "tolist", "numpy", "data", "retain_grad", "register_hook"),
}
CHANGING = {
    *("append", "appendleft", "extend", "insert", "pop", "popitem", "popleft", "remove", "clear"),
    *("setdefault", "update", "discard", "send", "throw", "__setattr__", "__setitem__", "__next__"),
    *("add_", "register_buffer", "register_parameter", "write", "writelines"),
}
STORES: tuple[str, ...] = (
    "STORE_ATTR",
    "DELETE_ATTR",
    "STORE_GLOBAL",
    "DELETE_GLOBAL",
    "STORE_SUBSCR",
)
STORES += ("DELETE_SUBSCR", "STORE_NAME", "STORE_SLICE", "YIELD_VALUE", "GET_AWAITABLE")
SKIPPED = ("CACHE", "PUSH_NULL", "PRECALL", "EXTENDED_ARG", "COPY_FREE_VARS", "NOT_TAKEN")

Get = Callable[[], Any]


class Dependencies:
    """The values that a cell's equations read, each by a function that gets it again."""

    def __init__(self, cell: Any) -> None:
        self._cell = weakref.ref(cell)
        self.reads: dict[tuple[int, str], Get] = {}  # by where each name is looked up, and the name
        self._walked: set[tuple[types.CodeType, bool]] = set()

    @classmethod
    def of(cls, cell: Any, methods: tuple[str, ...] = ("activate",)) -> Self:
        """Those of these methods.

        Raises:
            UntraceableError: something that cannot be followed, and what.
        """
        found = cls(cell)
        for name in methods:
            found._attribute(cell, "self", lambda: found.cell, [name])
        return found

    @property
    def cell(self) -> Any:
        return self._cell()

    def snapshot(self) -> list[Any]:
        """The values as they are now, comparable with an earlier snapshot.

        Raises:
            UntraceableError: a value that has become one that cannot be followed.
        """
        return [snapshot(name, get()) for (_, name), get in self.reads.items()]

    # Functions.

    def _function(self, name: str, function: types.FunctionType, bound: bool) -> None:
        """Follow what a Python function reads; `bound`: its first argument is the cell."""
        if (function.__code__, bound) in self._walked:
            return
        self._walked.add((function.__code__, bound))
        for n, value in enumerate(function.__defaults__ or ()):
            snapshot(f"{name}, default {n}", value)
        code = function.__code__
        own = code.co_varnames[0] if bound and code.co_argcount else None
        self._code(name, code, function, own)

    def _code(
        self, name: str, code: types.CodeType, function: types.FunctionType, own: str | None
    ) -> None:
        free = dict(zip(function.__code__.co_freevars, function.__closure__ or ()))
        instructions = [
            found for found in dis.get_instructions(code) if found.opname not in SKIPPED
        ]
        at = 0
        while at < len(instructions):
            found = instructions[at]
            at += 1
            path: list[str] = []
            while at < len(instructions) and _is_attribute(instructions[at]):
                path.append(str(instructions[at].argval))
                at += 1
            _check_store(name, found, code, own)
            if at < len(instructions) and instructions[at].opname in STORES:
                _check_store(name, instructions[at], code, own)
            if own is not None and own in (loaded := _loaded(found)):
                if loaded[-1] != own or not path or loaded.count(own) > 1:
                    raise UntraceableError(f"{name} passes self on; pass what it reads of self")
                self._attribute(self.cell, "self", lambda: self.cell, path)
            elif found.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                self._global(name, found.argval, function, path, instructions[at - 1 : at + 3])
            elif found.argval in free and found.opname in ("LOAD_DEREF", "LOAD_CLASSDEREF"):
                cell = free[found.argval]
                self._attribute(cell, found.argval, partial(_content, cell), path)
            elif found.opname == "LOAD_SUPER_ATTR":
                self._super(name, function, found.argval)
            elif found.opname in ("IMPORT_NAME", "IMPORT_FROM"):
                raise UntraceableError(f"{name} imports; import at the top of the module")
            else:
                _check_attributes(name, path)
        for inner in code.co_consts:
            if isinstance(inner, types.CodeType):
                self._code(name, inner, function, own if own in inner.co_freevars else None)

    def _global(
        self,
        name: str,
        key: str,
        function: types.FunctionType,
        path: list[str],
        following: list[dis.Instruction],
    ) -> None:
        if key in function.__globals__:
            names = function.__globals__
            self._attribute(names, key, lambda: names[key], path)
            return
        value = getattr(builtins, key, None)
        if value is super:  # super().method
            methods = [found for found in following if _is_attribute(found)]
            if methods:
                self._super(name, function, str(methods[0].argval))
                return
        if value not in FUNCTIONS and not (
            isinstance(value, type) and issubclass(value, BaseException)
        ):
            raise UntraceableError(f"{name} reads {key}, which a recording cannot follow")

    def _super(self, name: str, function: types.FunctionType, attribute: str) -> None:
        closure = dict(zip(function.__code__.co_freevars, function.__closure__ or ()))
        if "__class__" not in closure:
            raise UntraceableError(f"{name} calls super() in a way that cannot be followed")
        kinds = type(self.cell).__mro__
        after = kinds[kinds.index(closure["__class__"].cell_contents) + 1 :]
        for kind in after:
            if attribute in vars(kind):
                self._method(f"{kind.__name__}.{attribute}", vars(kind)[attribute])
                return
        raise UntraceableError(f"{name} calls super().{attribute}, which is not there")

    # Values.

    def _attribute(self, root: Any, name: str, get: Get, path: list[str]) -> None:
        """Follow attributes from a value on, to the last that can be read.

        `root` is where the first name is looked up: the cell, a module's names, a closure.
        """
        value = get()
        if not path:
            self._value(root, name, get)
            return
        attribute, *rest = path
        longer = f"{name}.{attribute}"
        if value is self.cell:
            if attribute in value._parameters or parametrize.is_parametrized(value, attribute):
                _check_attributes(longer, rest)
                return
            if attribute not in vars(value) and _is_method(_static(type(value), attribute)):
                self._method(longer, _static(type(value), attribute))
                _check_attributes(longer, rest)
                return
        elif isinstance(value, (Tensor, tuple, *PLAIN)) or type(value) in (list, dict):
            self._value(root, name, get)
            _check_attributes(name, path)
            return
        elif isinstance(value, types.ModuleType):
            _check_module(longer, value, attribute)
        elif not isinstance(value, (type, types.FunctionType)) and not _holds(value, attribute):
            raise UntraceableError(f"{longer}: a {type(value).__name__} cannot be followed")
        if not hasattr(value, attribute):
            raise UntraceableError(f"{longer} does not exist")
        self._attribute(root, longer, lambda: getattr(get(), attribute), rest)

    def _method(self, name: str, method: Any) -> None:
        """A method or property of the cell's class."""
        if isinstance(method, property):
            method = method.fget
        bound = not isinstance(method, staticmethod)
        function = method if bound else method.__func__
        if not isinstance(function, types.FunctionType) or function.__module__.startswith("torch."):
            raise UntraceableError(f"{name}: a {type(method).__name__} cannot be followed")
        attribute, kind = name.rpartition(".")[2], type(self.cell)
        self.reads[id(kind), name] = lambda: _static(kind, attribute)
        self._function(name, function, bound)

    def _value(self, root: Any, name: str, get: Get) -> None:
        value = get()
        if value is self.cell:
            raise UntraceableError(f"{name} is the cell itself; read its attributes by name")
        snapshot(name, value)
        self.reads[id(root), name] = get
        if isinstance(value, types.FunctionType) and not _is_trusted(value):
            self._function(name, value, bound=False)


def snapshot(name: str, value: Any) -> Any:
    """A value that is equal to another snapshot only if nothing that can be read has changed.

    Raises:
        UntraceableError: a value that may change without being another.
    """
    kind = type(value)
    if kind in PLAIN:
        return kind, repr(value)  # tells 0.0 from -0.0, and nan is nan
    if kind in (tuple, list) or (isinstance(value, tuple) and hasattr(value, "_fields")):
        return kind, [snapshot(f"{name}[{n}]", part) for n, part in enumerate(value)]
    if kind is dict:
        return kind, [
            (snapshot(name, key), snapshot(f"{name}[{key!r}]", part)) for key, part in value.items()
        ]
    if isinstance(value, Tensor):
        return kind  # the recorder knows parameters, and refuses other tensors
    if isinstance(value, types.FunctionType):
        defaults = [value.__defaults__, value.__kwdefaults__]
        return _Same(value), value.__code__, snapshot(f"{name}, defaults", defaults)
    if isinstance(value, staticmethod):
        return snapshot(name, value.__func__)
    if isinstance(value, property):
        return snapshot(name, value.fget)
    if isinstance(value, nn.Module) and _is_activation(value):
        plain = [(key, part) for key, part in vars(value).items() if key[0] != "_"]
        return _Same(value), [snapshot(f"{name}.{key}", part) for key, part in plain]
    if (
        kind in IMMUTABLE
        or (isinstance(value, types.BuiltinFunctionType) and _is_pure(value))
        or (isinstance(value, type) and (value in FUNCTIONS or issubclass(value, NAMES)))
    ):
        return _Same(value)
    raise UntraceableError(
        f"{name}: a {kind.__name__} may change unnoticed; use numbers, strings, tuples, lists and "
        "dicts of them, parameters, and functions"
    )


class _Same:
    """Equal to itself by identity alone."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    __hash__ = None  # type: ignore[assignment]


def _is_attribute(found: dis.Instruction) -> bool:
    return found.opname in ("LOAD_ATTR", "LOAD_METHOD")


def _content(cell: types.CellType) -> Any:
    return cell.cell_contents


def _loaded(found: dis.Instruction) -> tuple[str, ...]:
    """The local variables that an instruction pushes, the last one on top."""
    if not found.opname.startswith(("LOAD_FAST", "LOAD_DEREF")):
        return ()
    return found.argval if isinstance(found.argval, tuple) else (found.argval,)


def _check_store(name: str, found: dis.Instruction, code: types.CodeType, own: str | None) -> None:
    outer = found.opname == "STORE_DEREF" and found.argval in code.co_freevars
    names = found.argval if isinstance(found.argval, tuple) else (found.argval,)
    if found.opname in STORES or outer or ("STORE_FAST" in found.opname and own in names):
        raise UntraceableError(
            f"{name} changes something ({found.opname} {found.argval}), which may differ from step "
            "to step; make it a part of the state"
        )


def _check_attributes(name: str, path: list[str]) -> None:
    """Refuse attributes of unknown objects that change them, or that differ between tensors."""
    for attribute in path:
        if attribute in CHANGING:
            raise UntraceableError(f"{name} calls .{attribute}(), which changes something")
        if attribute in UNKNOWN:
            raise UntraceableError(
                f"{name} reads .{attribute}, which may differ where the recording is run"
            )


def _check_module(name: str, module: types.ModuleType, attribute: str) -> None:
    """Refuse what may give another result for the same arguments in torch's modules."""
    if module.__name__.partition(".")[0] != "torch":
        return
    value = getattr(module, attribute, None)
    if isinstance(value, types.ModuleType):
        if value.__name__ not in (*OPERATIONS, "torch.nn"):
            raise UntraceableError(f"{name} is outside of torch's operations")
    elif callable(value) and (_is_stateful(attribute) or module.__name__ not in OPERATIONS):
        raise UntraceableError(f"{name} may differ from call to call")


def _is_stateful(name: str) -> bool:
    return name.startswith(STATEFUL) and name not in PURE


def _is_pure(function: types.BuiltinFunctionType) -> bool:
    """Whether its result depends on its arguments alone."""
    owner = function.__self__
    if owner is not None and not isinstance(owner, types.ModuleType):
        return False
    module = function.__module__ or ""
    if module.partition(".")[0] == "torch":
        return not _is_stateful(function.__name__)
    return function in FUNCTIONS or module in (math.__name__, "_operator")


def _is_trusted(function: types.FunctionType) -> bool:
    """Whether a function of torch or of this package is taken as it is."""
    module = function.__module__ or ""
    return module.partition(".")[0] in ("torch", "seqcells") and not _is_stateful(function.__name__)


def _is_activation(module: nn.Module) -> bool:
    hooks = (part for key, part in vars(module).items() if key.endswith("_hooks"))
    return type(module).__module__ == "torch.nn.modules.activation" and not any(hooks)


def _is_method(value: Any) -> bool:
    return isinstance(value, (types.FunctionType, staticmethod, classmethod, property))


def _holds(value: Any, attribute: str) -> bool:
    """Whether an object holds this attribute itself, and nothing computes it."""
    kind = type(value)
    own = _static(kind, "__getattribute__")
    if own not in (vars(base)["__getattribute__"] for base in (object, types.SimpleNamespace)):
        return False
    if hasattr(kind, "__getattr__"):
        return False
    return attribute in getattr(value, "__dict__", {})


def _static(kind: type, attribute: str) -> Any:
    """The attribute as the class has it, a method unbound; None without one."""
    return next((vars(base)[attribute] for base in kind.__mro__ if attribute in vars(base)), None)
