"""How far each word of a text moved a classifier, found by reading every beginning of the text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

POSITIONS = 2**15  # at most so many tokens, padding among them, are read at once
SHADES = {True: (195, 153, 111, 75), False: (223, 216, 215, 208)}  # of a terminal: blue, orange
FAINT = 0.05  # a shade below this is none


class Explanation(NamedTuple):
    """What a classifier held of a text, word after word.

    Attributes:
        words: the T words that it read.
        logits: `(T,)`, float32: the log-odds of "positive" after each of them, as if the text
            ended there. The last is the prediction.
    """

    words: list[str]
    logits: Tensor

    @property
    def probabilities(self) -> Tensor:
        """`(T,)`: the running probability of "positive"."""
        return self.logits.sigmoid()

    @property
    def pushes(self) -> Tensor:
        """`(T,)`: by how much each word raised the logit; together the last less the first.

        The first has nothing before it to be compared with: its push is zero.
        """
        return self.logits.diff(prepend=self.logits[:1])

    @property
    def shades(self) -> Tensor:
        """`(T,)`: the pushes as colours between -1 and 1, comparable from text to text."""
        return self.pushes.tanh()


@torch.no_grad()
def explain(
    model: Callable[[Tensor, Tensor], Tensor], tokens: Tensor, words: Iterable[str]
) -> Explanation:
    """Have `model` read every beginning of a text, many at once.

    Whatever a word does to what was read before it is in its push: in a network of two directions,
    or one that pools, it is not the word's alone.

    Args:
        model: in evaluation mode, from tokens `(T, B)`, padded with zeros, and lengths `(B,)`
            to logits `(B,)`.
        tokens: `(T,)`, int64, at least one.
        words: the T words that these are.

    Raises:
        ValueError: no tokens, another shape, another number of words.
    """
    words = list(words)
    if tokens.dim() != 1 or not len(tokens):
        raise ValueError(f"tokens: expected at least one, (T,), got shape {tuple(tokens.shape)}")
    if len(words) != len(tokens):
        raise ValueError(f"words: expected {len(tokens)}, one a token, got {len(words)}")
    return Explanation(words, torch.cat([_read(model, tokens, ends) for ends in _parts(tokens)]))


def _parts(tokens: Tensor) -> Iterator[Tensor]:
    """The lengths from one to all, cut where together they would take too much memory."""
    first, last = 1, len(tokens)
    while first <= last:
        end = first
        while end < last and (end + 1) * (end + 2 - first) <= POSITIONS:
            end += 1
        yield torch.arange(first, end + 1)
        first = end + 1


def _read(model: Callable[[Tensor, Tensor], Tensor], tokens: Tensor, ends: Tensor) -> Tensor:
    steps = torch.arange(int(ends[-1])).unsqueeze(1)
    beginnings = tokens[: len(steps)].unsqueeze(1).where(steps < ends, 0)
    return model(beginnings, ends)


def coloured(explanation: Explanation) -> str:
    """For a terminal: the words on blue where they raised the probability, else on orange."""
    return " ".join(map(_painted, explanation.words, explanation.shades.tolist()))


def _painted(word: str, shade: float) -> str:
    if abs(shade) < FAINT:
        return word
    colours = SHADES[shade > 0]
    colour = colours[min(int(abs(shade) * len(colours)), len(colours) - 1)]
    return f"\033[38;5;16;48;5;{colour}m{word}\033[0m"


def listed(explanation: Explanation) -> str:
    """For a file: a line a word, with its push and the probability after it."""
    columns = zip(explanation.words, explanation.pushes, explanation.probabilities)
    return "\n".join(
        f"{push:+8.3f}  {probability:.4f}  {word}" for word, push, probability in columns
    )
