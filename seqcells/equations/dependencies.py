"""The values that a cell's `activate` reads besides its arguments, found in its bytecode.

A recording of `activate` holds as long as everything that it read is unchanged: numbers, strings
and flags, also in tuples, lists and dicts, on the cell, its class, modules, in closures and
defaults, and the functions that it calls. `Dependencies.of` follows each name and attribute to its
value; `snapshot` reads these values again. Whatever cannot be followed, or may change while
`activate` runs, raises an `UntraceableError`: such a cell is not recorded.
"""

from __future__ import annotations

import builtins
import dis
import types
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Self

from torch import Tensor
from torch.nn.utils import parametrize

from seqcells.equations.program import UntraceableError
from seqcells.equations.snapshots import (
    FUNCTIONS,
    PLAIN,
    check_attributes,
    check_module,
    holds,
    is_method,
    is_trusted,
    snapshot,
    static,
)

STORES = (
    *("STORE_ATTR", "DELETE_ATTR", "STORE_GLOBAL", "DELETE_GLOBAL", "STORE_SUBSCR", "STORE_NAME"),
    *("DELETE_SUBSCR", "STORE_SLICE", "YIELD_VALUE", "GET_AWAITABLE", "LOAD_BUILD_CLASS"),
)
SKIPPED = ("CACHE", "PUSH_NULL", "PRECALL", "EXTENDED_ARG", "COPY_FREE_VARS", "NOT_TAKEN")

Get = Callable[[], Any]


class Dependencies:
    """The values that a cell's equations read, each by a function that gets it again."""

    def __init__(self, cell: Any) -> None:
        self._cell = weakref.ref(cell)
        self.reads: dict[tuple[int, str], Get] = {}  # by where each name is looked up, and the name
        self._walked: set[tuple[types.FunctionType, bool]] = set()

    @classmethod
    def of(cls, cell: Any) -> Self:
        """Return the dependencies of the cell's `activate`.

        Raises:
            UntraceableError: something that cannot be followed, and what.
        """
        found = cls(cell)
        found._attribute(cell, "self", lambda: found.cell, ["activate"])
        return found

    @property
    def cell(self) -> Any:
        return self._cell()

    def snapshot(self) -> list[Any]:
        """Return the present values, comparable with an earlier snapshot.

        Raises:
            UntraceableError: a value that has become one that cannot be followed.
        """
        return [snapshot(name, get()) for (_, name), get in self.reads.items()]

    # Functions.

    def _function(self, name: str, function: types.FunctionType, bound: bool) -> None:
        """Follow what a Python function reads; `bound`: its first argument is the cell."""
        if (function, bound) in self._walked:
            return
        self._walked.add((function, bound))
        code = function.__code__
        if bound and not code.co_argcount:
            raise UntraceableError(f"{name} takes self among others; name it as an argument")
        own = code.co_varnames[0] if bound else None
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
            if at < len(instructions) and instructions[at].opname in STORES:  # as `self.x = ...`
                _check_store(name, instructions[at], code, own)
            if at < len(instructions) and instructions[at].opname == "LOAD_SUPER_ATTR":
                self._super(name, function, str(instructions[at].argval))
            elif own is not None and own in (loaded := _loaded(found)):
                if loaded[-1] != own or not path or loaded.count(own) > 1:
                    raise UntraceableError(f"{name} passes self on; pass what it reads of self")
                self._attribute(self.cell, "self", lambda: self.cell, path)
            elif found.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                self._global(name, found.argval, function, path, instructions[at - 1 : at + 4])
            elif found.opname == "LOAD_DEREF" and found.argval == "__class__" and not path:
                pass  # for super()
            elif found.argval in free and found.opname in ("LOAD_DEREF", "LOAD_CLASSDEREF"):
                cell = free[found.argval]
                self._attribute(cell, found.argval, partial(_content, cell), path)
            elif found.opname == "LOAD_SUPER_ATTR":
                check_attributes(name, path)
            elif found.opname in ("IMPORT_NAME", "IMPORT_FROM"):
                raise UntraceableError(f"{name} imports; import at the top of the module")
            else:
                check_attributes(name, path)
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
        names = function.__globals__
        if key in names:
            self._attribute(names, key, lambda: names[key], path)
            return
        value = getattr(builtins, key, None)
        if value is super:
            if any(found.opname == "LOAD_SUPER_ATTR" for found in following):
                return  # followed there
            methods = [found for found in following if _is_attribute(found)]
            if methods:
                self._super(name, function, str(methods[0].argval))
                return
        if value not in FUNCTIONS and not (
            isinstance(value, type) and issubclass(value, BaseException)
        ):
            raise UntraceableError(f"{name} reads {key}, which a recording cannot follow")
        self.reads[id(names), key] = lambda: names.get(key, value)  # a global may take its place

    def _super(self, name: str, function: types.FunctionType, attribute: str) -> None:
        closure = dict(zip(function.__code__.co_freevars, function.__closure__ or ()))
        if "__class__" not in closure:
            raise UntraceableError(f"{name} calls super() in a way that cannot be followed")
        kinds = type(self.cell).__mro__
        after = kinds[kinds.index(closure["__class__"].cell_contents) + 1 :]
        for kind in after:
            if attribute in vars(kind):
                self._method(kind, attribute)
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
                snapshot(longer, getattr(value, attribute))
                check_attributes(longer, rest)
                return
            if attribute not in vars(value) and is_method(static(type(value), attribute)):
                # An attribute of the cell would take the method's place.
                self.reads[id(value), longer] = lambda: vars(self.cell).get(attribute)
                self._method(type(value), attribute)
                check_attributes(longer, rest)
                return
        elif isinstance(value, (Tensor, tuple, *PLAIN)) or type(value) in (list, dict):
            self._value(root, name, get)
            check_attributes(name, path)
            return
        elif isinstance(value, types.ModuleType):
            check_module(longer, value, attribute)
        elif not isinstance(value, (type, types.FunctionType)) and not holds(value, attribute):
            raise UntraceableError(f"{longer}: a {type(value).__name__} cannot be followed")
        if not hasattr(value, attribute):
            raise UntraceableError(f"{longer} does not exist")
        self._attribute(root, longer, lambda: getattr(get(), attribute), rest)

    def _method(self, kind: type, attribute: str) -> None:
        """Follow a method or property of one of the cell's classes."""
        name, method = f"{kind.__name__}.{attribute}", static(kind, attribute)
        if isinstance(method, property):
            method = method.fget
        bound = not isinstance(method, staticmethod)
        function = method if bound else method.__func__
        ours = isinstance(function, types.FunctionType)
        if not ours or (function.__module__ or "").startswith("torch."):
            raise UntraceableError(f"{name}: a {type(method).__name__} cannot be followed")
        self.reads[id(kind), name] = lambda: static(kind, attribute)
        self._function(name, function, bound)

    def _value(self, root: Any, name: str, get: Get) -> None:
        value = get()
        if value is self.cell:
            raise UntraceableError(f"{name} is the cell itself; read its attributes by name")
        snapshot(name, value)
        self.reads[id(root), name] = get
        if isinstance(value, types.FunctionType) and not is_trusted(value):
            self._function(name, value, bound=False)


def _is_attribute(found: dis.Instruction) -> bool:
    return found.opname in ("LOAD_ATTR", "LOAD_METHOD")


def _content(cell: types.CellType) -> Any:
    return cell.cell_contents


def _loaded(found: dis.Instruction) -> tuple[str, ...]:
    """Return the local variables that an instruction pushes, the last one on top."""
    if not found.opname.startswith(("LOAD_FAST", "LOAD_DEREF")):
        return ()
    return found.argval if isinstance(found.argval, tuple) else (found.argval,)


def _check_store(name: str, found: dis.Instruction, code: types.CodeType, own: str | None) -> None:
    if found.opname == "YIELD_VALUE" and code.co_name == "<genexpr>":
        return
    outer = found.opname == "STORE_DEREF" and found.argval in code.co_freevars
    names = found.argval if isinstance(found.argval, tuple) else (found.argval,)
    rebound = found.opname.startswith("STORE_") and own in names
    if found.opname in STORES or outer or (own is not None and rebound):
        raise UntraceableError(
            f"{name} changes something ({found.opname} {found.argval}), which may differ from step "
            "to step; make it a part of the state"
        )
