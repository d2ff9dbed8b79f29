"""Derived texts whose characters are aligned with spans of the original text."""

from __future__ import annotations

import re
from typing import NamedTuple


class Token(NamedTuple):
    """A token and its span `[start, end)` in the original text."""

    text: str
    start: int
    end: int


class AlignedText:
    """A text, and for each of its characters a span `[start, end)` in the original text.

    Starts and ends never decrease from one character to the next.
    """

    def __init__(self, text: str, spans: list[tuple[int, int]]):
        self.text, self.spans = text, spans

    @classmethod
    def lowercase(cls, original: str) -> AlignedText:
        """Lowercase a text. Some letters become two characters, which share a span."""
        spans = [
            (index, index + 1) for index, letter in enumerate(original) for _ in letter.lower()
        ]
        return cls(original.lower(), spans)

    def substitute(self, pattern: re.Pattern[str], replacement: str) -> AlignedText:
        """Replace matches as `pattern.sub` does; each replacement has the span of its match."""
        texts: list[str] = []
        spans: list[tuple[int, int]] = []
        position = 0
        for match in pattern.finditer(self.text):
            new = match.expand(replacement)
            texts += self.text[position : match.start()], new
            spans += self.spans[position : match.start()]
            spans += [self._span(*match.span())] * len(new)
            position = match.end()
        return AlignedText("".join(texts) + self.text[position:], spans + self.spans[position:])

    def words(self) -> list[Token]:
        """Split at white space, as `str.split` does."""
        return [
            Token(match[0], *self._span(*match.span())) for match in re.finditer(r"\S+", self.text)
        ]

    def characters(self) -> list[Token]:
        return [Token(letter, *span) for letter, span in zip(self.text, self.spans, strict=True)]

    def _span(self, start: int, end: int) -> tuple[int, int]:
        """Return the original span of characters `start` to `end`; an empty one is a position."""
        if start < end:
            return self.spans[start][0], self.spans[end - 1][1]
        position = self.spans[start - 1][1] if start else 0
        return position, position
