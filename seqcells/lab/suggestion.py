"""The known name that a mistyped one most likely means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to `name`, or None if none is similar.

    Case and leading dashes are ignored. The last part of a dotted name matches the whole name:
    `hidden_size` means `model.hidden_size`. So does the beginning of a name, if it is unique.
    """
    wanted, names = _plain(name), {_plain(other): other for other in known}
    if not wanted:
        return None
    for matches in (
        [other for other in names if other == wanted],
        [other for other in names if other.rpartition(".")[2] == wanted],
        [other for other in names if other.startswith(wanted)],
    ):
        if len(matches) == 1:
            return names[matches[0]]
    close = get_close_matches(wanted, names, n=1)
    return names[close[0]] if close else None


def check_name(option: str, name: object, known: Sequence[str]) -> None:
    """Raise a ValueError with the nearest known name unless `name` is one of them."""
    if name in known:
        return
    near = nearest(str(name), known)
    advice = "" if near is None else f"; did you mean {near}?"
    raise ValueError(f"{option}: expected {' or '.join(known)}, got {name!r}{advice}")


def _plain(name: str) -> str:
    return name.lower().lstrip("-")
