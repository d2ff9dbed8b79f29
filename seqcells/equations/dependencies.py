"""Find the values that a cell's `activate` reads besides its arguments, from its bytecode.

A recording of `activate` is valid while these values are unchanged: numbers, strings and flags,
also in tuples, lists and dicts, on the cell, its class or modules, in closures and defaults, and
the functions that it calls. `Dependencies.of` follows each name and attribute to its value.
`snapshot` reads the current values. A read that cannot be followed, or a value that may change
while `activate` runs, raises an `UntraceableError`. Such a cell is not recorded.
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
    PLAIN_TYPES,
    PURE_BUILTINS,
    check_attributes,
    check_module,
    class_attribute,
    is_method,
    is_stored,
    is_trusted,
    snapshot,
)

STORE_OPCODES = (
    *("STORE_ATTR", "DELETE_ATTR", "STORE_GLOBAL", "DELETE_GLOBAL", "STORE_SUBSCR", "STORE_NAME"),
    *("DELETE_SUBSCR", "STORE_SLICE", "YIELD_VALUE", "GET_AWAITABLE", "LOAD_BUILD_CLASS"),
)
SKIPPED_OPCODES = ("CACHE", "PUSH_NULL", "PRECALL", "EXTENDED_ARG", "COPY_FREE_VARS", "NOT_TAKEN")

Getter = Callable[[], Any]


class Dependencies:
    """The values that a cell's equations read, each with a function that returns it."""

    def __init__(self, cell: Any) -> None:
        self._cell = weakref.ref(cell)
        # Keys: the id of the object in which a name is looked up, and the name.
        self.getters: dict[tuple[int, str], Getter] = {}
        self._visited: set[tuple[types.FunctionType, bool]] = set()

    @classmethod
    def of(cls, cell: Any) -> Self:
        """Return the dependencies of the cell's `activate`.

        Raises:
            UntraceableError: a read cannot be followed.
        """
        dependencies = cls(cell)
        dependencies._attribute(cell, "self", lambda: dependencies.cell, ["activate"])
        return dependencies

    @property
    def cell(self) -> Any:
        return self._cell()

    def snapshot(self) -> list[Any]:
        """Return the current values, comparable with an earlier snapshot.

        Raises:
            UntraceableError: a new value cannot be followed.
        """
        return [snapshot(name, get()) for (_, name), get in self.getters.items()]

    # Functions.

    def _function(self, name: str, function: types.FunctionType, bound: bool) -> None:
        """Follow the reads of a Python function. If `bound`, its first argument is the cell."""
        if (function, bound) in self._visited:
            return
        self._visited.add((function, bound))
        code = function.__code__
        if bound and not code.co_argcount:
            raise UntraceableError(f"{name} takes self in *args; make self a named argument")
        self_name = code.co_varnames[0] if bound else None
        self._code(name, code, function, self_name)

    def _code(
        self, name: str, code: types.CodeType, function: types.FunctionType, self_name: str | None
    ) -> None:
        free = dict(zip(function.__code__.co_freevars, function.__closure__ or ()))
        instructions = [
            instruction
            for instruction in dis.get_instructions(code)
            if instruction.opname not in SKIPPED_OPCODES
        ]
        at = 0
        while at < len(instructions):
            instruction = instructions[at]
            at += 1
            path: list[str] = []
            while at < len(instructions) and _is_attribute(instructions[at]):
                path.append(str(instructions[at].argval))
                at += 1
            _check_store(name, instruction, code, self_name)
            following = instructions[at].opname if at < len(instructions) else ""
            if following in STORE_OPCODES:  # a store to an attribute, as in `self.x = ...`
                _check_store(name, instructions[at], code, self_name)
            if following == "LOAD_SUPER_ATTR":
                self._super(name, function, str(instructions[at].argval))
            elif self_name is not None and self_name in (loaded := _loaded(instruction)):
                if loaded[-1] != self_name or not path or loaded.count(self_name) > 1:
                    raise UntraceableError(
                        f"{name} passes self on; pass attributes of self instead"
                    )
                self._attribute(self.cell, "self", lambda: self.cell, path)
            elif instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                self._global(
                    name, instruction.argval, function, path, instructions[at - 1 : at + 4]
                )
            elif (
                instruction.opname == "LOAD_DEREF"
                and instruction.argval == "__class__"
                and not path
            ):
                pass  # for super()
            elif instruction.argval in free and instruction.opname in (
                "LOAD_DEREF",
                "LOAD_CLASSDEREF",
            ):
                cell = free[instruction.argval]
                self._attribute(cell, instruction.argval, partial(_cell_contents, cell), path)
            elif instruction.opname == "LOAD_SUPER_ATTR":
                check_attributes(name, path)
            elif instruction.opname in ("IMPORT_NAME", "IMPORT_FROM"):
                raise UntraceableError(f"{name} imports; import at the top of the module")
            else:
                check_attributes(name, path)
        for inner in code.co_consts:
            if isinstance(inner, types.CodeType):
                inner_self = self_name if self_name in inner.co_freevars else None
                self._code(name, inner, function, inner_self)

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
            if any(instruction.opname == "LOAD_SUPER_ATTR" for instruction in following):
                return  # `_code` follows that instruction
            methods = [instruction for instruction in following if _is_attribute(instruction)]
            if methods:
                self._super(name, function, str(methods[0].argval))
                return
        if value not in PURE_BUILTINS and not (
            isinstance(value, type) and issubclass(value, BaseException)
        ):
            raise UntraceableError(f"{name} reads {key}, which cannot be followed")
        self.getters[id(names), key] = lambda: names.get(key, value)  # a global may shadow it

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
        raise UntraceableError(f"{name} calls super().{attribute}, which does not exist")

    # Values.

    def _attribute(self, root: Any, name: str, get: Getter, path: list[str]) -> None:
        """Follow a path of attributes from a value.

        Args:
            root: the object in which the first name is looked up: the cell, the names of a module,
                or a closure.
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
            if attribute not in vars(value) and is_method(class_attribute(type(value), attribute)):
                # An attribute of the cell would shadow the method.
                self.getters[id(value), longer] = lambda: vars(self.cell).get(attribute)
                self._method(type(value), attribute)
                check_attributes(longer, rest)
                return
        elif isinstance(value, (Tensor, tuple, *PLAIN_TYPES)) or type(value) in (list, dict):
            self._value(root, name, get)
            check_attributes(name, path)
            return
        elif isinstance(value, types.ModuleType):
            check_module(longer, value, attribute)
        elif not isinstance(value, (type, types.FunctionType)) and not is_stored(value, attribute):
            raise UntraceableError(f"{longer}: a {type(value).__name__} cannot be followed")
        if not hasattr(value, attribute):
            raise UntraceableError(f"{longer} does not exist")
        self._attribute(root, longer, lambda: getattr(get(), attribute), rest)

    def _method(self, kind: type, attribute: str) -> None:
        """Follow a method or property of one of the cell's classes."""
        name, method = f"{kind.__name__}.{attribute}", class_attribute(kind, attribute)
        if isinstance(method, property):
            method = method.fget
        bound = not isinstance(method, staticmethod)
        function = method if bound else method.__func__
        if not isinstance(function, types.FunctionType) or (function.__module__ or "").startswith(
            "torch."
        ):
            raise UntraceableError(f"{name}: a {type(method).__name__} cannot be followed")
        self.getters[id(kind), name] = lambda: class_attribute(kind, attribute)
        self._function(name, function, bound)

    def _value(self, root: Any, name: str, get: Getter) -> None:
        value = get()
        if value is self.cell:
            raise UntraceableError(f"{name} is the cell itself; read its attributes by name")
        snapshot(name, value)
        self.getters[id(root), name] = get
        if isinstance(value, types.FunctionType) and not is_trusted(value):
            self._function(name, value, bound=False)


def _is_attribute(instruction: dis.Instruction) -> bool:
    return instruction.opname in ("LOAD_ATTR", "LOAD_METHOD")


def _cell_contents(cell: types.CellType) -> Any:
    return cell.cell_contents


def _loaded(instruction: dis.Instruction) -> tuple[str, ...]:
    """Return the local variables that an instruction pushes, the top of the stack last."""
    if not instruction.opname.startswith(("LOAD_FAST", "LOAD_DEREF")):
        return ()
    return instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)


def _check_store(
    name: str, instruction: dis.Instruction, code: types.CodeType, self_name: str | None
) -> None:
    if instruction.opname == "YIELD_VALUE" and code.co_name == "<genexpr>":
        return
    outer = instruction.opname == "STORE_DEREF" and instruction.argval in code.co_freevars
    names = instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)
    rebound = instruction.opname.startswith("STORE_") and self_name in names
    if instruction.opname in STORE_OPCODES or outer or (self_name is not None and rebound):
        raise UntraceableError(
            f"{name} modifies a value ({instruction.opname} {instruction.argval}), which may "
            "then differ between steps; make it a part of the state"
        )
