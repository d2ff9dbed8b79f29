"""Command-line options shared by the benchmarks. Must not import torch: `benchmarks.memory`."""

import argparse
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product
from typing import Any


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Return a parser that prints a module's docstring unchanged."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def at_least_one(text: str) -> int:
    """Parse a count: the `type` of an option."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def words_of(
    parser: argparse.ArgumentParser, option: str, given: str, known: Collection[str]
) -> list[str]:
    """Split the value of an option at its commas; exit with an error at an unknown word."""
    found = [word for word in given.split(",") if word]
    for word in found:
        if word not in known:
            parser.error(f"{option}: expected words out of {', '.join(known)}, got {word!r}")
    return found


def select(
    axes: Sequence[Mapping[str, Any]], only: Collection[str], default: Collection[str] = ()
) -> Iterator[tuple[Any, ...]]:
    """Yield the points of a grid, whose axes map words to values.

    Each axis takes the values that `only` names, else those that `default` names, else all.
    """

    def named(axis: Mapping[str, Any], words: Collection[str]) -> list[Any]:
        return [value for word, value in axis.items() if word in words]

    return product(*(named(axis, only) or named(axis, default) or axis.values() for axis in axes))
