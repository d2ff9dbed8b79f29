"""Reviews as they were written, cut into the words that the model read."""

import re
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from seqcells.lab.text.batches import truncate
from seqcells.lab.text.vocabulary import Vocabulary
from seqcells.lab.training import DataConfig

PREVIEW = 140  # characters
ELLIPSIS = "…"
_BREAKS = re.compile(r"(<br\s*/?>\s*)+", re.IGNORECASE)


class Segment(NamedTuple):
    """A part of a text, and the tokens `[first, last)` of the model's input that it stands for.

    White space, punctuation that is not read, and ellipses stand for no token.
    """

    text: str
    first: int
    last: int


def segments(text: str, vocabulary: Vocabulary, config: DataConfig) -> list[Segment]:
    """Cut a text into segments, with an ellipsis for each part that truncation leaves out.

    All tokens that the model reads are in one of the segments, in order. Tokens with a common span
    share a segment. Line breaks in HTML become empty lines.
    """
    tokens = vocabulary.align(text)
    read = truncate(range(len(tokens)), config.max_tokens, config.truncate)
    parts: list[Segment] = []
    position, following = 0, 0
    for number, index in enumerate(read):
        token = tokens[index]
        if index != following:
            parts.append(Segment(f" {ELLIPSIS} " if number else f"{ELLIPSIS} ", number, number))
            position = token.start
        if token.end <= position and parts:
            parts[-1] = parts[-1]._replace(last=number + 1)
        else:
            parts += _segment(text, position, token.start, number, number)
            parts += _segment(text, max(position, token.start), token.end, number, number + 1)
        position, following = max(position, token.end), index + 1
    if following == len(tokens):
        parts += _segment(text, position, len(text), len(read), len(read))
    else:
        parts.append(Segment(f" {ELLIPSIS}", len(read), len(read)))
    return [part._replace(text=_BREAKS.sub("\n\n", part.text)) for part in parts]


def _segment(text: str, start: int, end: int, first: int, last: int) -> list[Segment]:
    return [Segment(text[start:end], first, last)] if start < end else []


def join(parts: Sequence[Segment]) -> str:
    return "".join(part.text for part in parts)


def preview(text: str) -> str:
    """Return the first words of a text in one line."""
    return textwrap.shorten(text, PREVIEW, placeholder=f" {ELLIPSIS}")


def identity(text: str) -> str:
    """Return a key that is equal for copies of a text, which may differ in white space."""
    return " ".join(text.split())
