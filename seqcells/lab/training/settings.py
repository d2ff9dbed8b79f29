"""Names and types of all settings, and plain error messages for files and options."""

import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from seqcells.lab.model_config import ModelConfig
from seqcells.lab.suggestion import nearest
from seqcells.lab.training.config import Config, DataConfig, TrainingConfig

PARTS = {"data": DataConfig, "model": ModelConfig, "training": TrainingConfig}
PLAIN_TYPES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    types.NoneType: "null",
}


def _types() -> dict[str, Any]:
    """Return the type of every setting by its dotted key."""
    top = {name: kind for name, kind in get_type_hints(Config).items() if name not in PARTS}
    return top | {
        f"{part}.{name}": hint
        for part, kind in PARTS.items()
        for name, hint in get_type_hints(kind).items()
    }


TYPES = _types()


def check_file(path: Path) -> None:
    """Raise a ValueError unless a file is YAML with known settings, each of them once.

    The error names the file and the line. Values are not validated.
    """
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        raise ValueError(f"expected a YAML file in UTF-8, got {path}, which is not text") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"expected valid YAML, got {path}:{line}: {error.problem}") from None
    except yaml.YAMLError as error:  # a character that YAML does not allow
        reason = getattr(error, "reason", "invalid characters")
        raise ValueError(f"expected valid YAML, got {path}: {reason}") from None
    if root is None:
        raise ValueError(f"expected settings in {path}, which has none, such as: task: sentiment")
    if not isinstance(root, yaml.MappingNode):
        raise ValueError(f"expected a mapping of settings in {path}, such as: task: sentiment")
    seen: dict[str, int] = {}
    for key, line, value in _nodes(root):
        place = f"{path}:{line}"
        if key in seen:
            raise ValueError(f"{place}: expected {key} once, got it in line {seen[key]} as well")
        if key not in TYPES and key not in PARTS:
            raise ValueError(f"{place}: expected a setting, got {key}{_suggest(key, TYPES)}")
        if key in PARTS and not isinstance(value, yaml.MappingNode):
            raise ValueError(f"{place}: expected a mapping of settings below {key}")
        seen[key] = line


def _nodes(root: yaml.MappingNode) -> Iterator[tuple[str, int, yaml.Node]]:
    """Return dotted key, line and value of each entry of a file."""
    for name, value in root.value:
        key = str(name.value)
        yield key, name.start_mark.line + 1, value
        if key in PARTS and isinstance(value, yaml.MappingNode):
            for inner, content in value.value:
                yield f"{key}.{inner.value}", inner.start_mark.line + 1, content


def explain(message: str) -> str:
    """Translate an error message of jsonargparse, which names Python types, to one line."""
    line = " ".join(message.split())
    unknown = re.match(r"unrecognized arguments: (.*)", line)
    if unknown is not None:
        return _explain_unknown(unknown[1].split()[0])
    invalid = re.match(r'Parser key "([\w.]+)": ', line)
    if invalid is None:
        return line
    key = invalid[1]
    got = re.search(r"(?:Got|Given) value:(.*)$", line)
    if key in PARTS:
        return f"{key}: expected a mapping of settings, or a setting as in --{key}.NAME VALUE"
    if key not in TYPES or got is None:
        return line.removeprefix("Parser key ")
    value = got[1].strip() or "nothing"
    suggestion = _suggest(value, _choices(TYPES[key]))
    return f"{key}: expected {describe(TYPES[key])}, got {value}{suggestion}"


def _explain_unknown(argument: str) -> str:
    if not argument.startswith("-"):
        return f"expected one configuration file, got another argument: {argument}"
    name = argument.partition("=")[0]
    options = [f"--{key}" for key in (*TYPES, "resume", "help")]
    return f"expected an option of train.py, got {name}{_suggest(name, options)}"


def _suggest(name: str, known: Any) -> str:
    suggestion = nearest(name, known)
    return "" if suggestion is None else f"; did you mean {suggestion}?"


def _choices(kind: Any) -> tuple[str, ...]:
    """Return the valid texts of a type."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    return tuple(choice for part in get_args(kind) for choice in _choices(part))


def describe(kind: Any) -> str:
    """Return a type in plain words.

    ```python
    describe(int | None)  # "a whole number or null"
    describe(list[Literal["last", "max"]])  # "a list of: last, max"
    ```
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin in (Union, types.UnionType):
        return " or ".join(map(describe, parts))
    if origin is list:
        choices = _choices(kind)
        return f"a list of: {', '.join(choices)}" if choices else "a list"
    if origin is dict:
        return f"a mapping of names to {describe(parts[1])}"
    return PLAIN_TYPES[kind]
