"""Contribution of each word to a prediction, from the logits of all prefixes of the text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

MAX_POSITIONS = 2**15  # tokens per batch of prefixes, padding included
# ANSI colours from pale to saturated: blue for positive, orange for negative.
COLOURS = {True: (195, 153, 111, 75), False: (223, 216, 215, 208)}
MIN_SHADE = 0.05  # paler shades are not printed
COLUMNS = f"{'push':>8}  probability  word"
LEGEND = "push: change of the log-odds; 0 at the first word, as an empty text has none"


class Explanation(NamedTuple):
    """Running prediction of a classifier over the words of a text.

    Attributes:
        words: the T words.
        logits: `(T,)`, float32: the log-odds of "positive" for the prefix that ends at each word.
            The last one is the prediction.
    """

    words: list[str]
    logits: Tensor

    @property
    def probabilities(self) -> Tensor:
        """`(T,)`: the running probability of "positive"."""
        return self.logits.sigmoid()

    @property
    def pushes(self) -> Tensor:
        """`(T,)`: the increase of the logit at each word.

        Pushes sum to the last logit minus the first. The first push is zero, because an empty text
        has no logit.
        """
        return self.logits.diff(prepend=self.logits[:1])

    @property
    def shades(self) -> Tensor:
        """`(T,)`: the pushes, squashed to between -1 and 1 for display."""
        return self.pushes.tanh()


@torch.no_grad()
def explain(
    model: Callable[[Tensor, Tensor], Tensor], tokens: Tensor, words: Iterable[str]
) -> Explanation:
    """Run `model` on every prefix of a text, in batches.

    A push includes the effect of the word on the rest of its prefix. In a bidirectional or pooling
    model it is not attributable to the word alone.

    Args:
        model: maps tokens `(T, B)`, padded with zeros, and lengths `(B,)` to logits `(B,)`, in
            evaluation mode.
        tokens: `(T,)`, int64, T at least 1.
        words: the T words.

    Raises:
        ValueError: `tokens` is empty or not one-dimensional, or the number of words differs.
    """
    words = list(words)
    if tokens.dim() != 1 or not len(tokens):
        raise ValueError(
            f"tokens: expected shape (T,) with T at least 1, got shape {tuple(tokens.shape)}"
        )
    if len(words) != len(tokens):
        raise ValueError(f"words: expected {len(tokens)}, one per token, got {len(words)}")
    chunks = _length_chunks(len(tokens))
    return Explanation(
        words, torch.cat([_prefix_logits(model, tokens, lengths) for lengths in chunks])
    )


def _length_chunks(last: int) -> Iterator[Tensor]:
    """Yield the prefix lengths 1 to `last` in chunks that limit memory."""
    first = 1
    while first <= last:
        end = first
        while end < last and (end + 1) * (end + 2 - first) <= MAX_POSITIONS:
            end += 1
        yield torch.arange(first, end + 1)
        first = end + 1


def _prefix_logits(
    model: Callable[[Tensor, Tensor], Tensor], tokens: Tensor, lengths: Tensor
) -> Tensor:
    steps = torch.arange(int(lengths[-1])).unsqueeze(1)
    prefixes = tokens[: len(steps)].unsqueeze(1).where(steps < lengths, 0)
    return model(prefixes, lengths)


def format_coloured(explanation: Explanation) -> str:
    """Format for a terminal: blue words raised the probability, orange words lowered it."""
    return " ".join(map(_colour_word, explanation.words, explanation.shades.tolist()))


def coloured_legend() -> str:
    """Return a line on the colours of `format_coloured`."""
    blue, orange = (_colour_word(*sample) for sample in (("blue", 1.0), ("orange", -1.0)))
    return f"{blue} raises, {orange} lowers the probability; before the first word there is none"


def _colour_word(word: str, shade: float) -> str:
    if abs(shade) < MIN_SHADE:
        return word
    colours = COLOURS[shade > 0]
    colour = colours[min(int(abs(shade) * len(colours)), len(colours) - 1)]
    return f"\033[38;5;16;48;5;{colour}m{word}\033[0m"


def format_table(explanation: Explanation) -> str:
    """Format as plain text: `COLUMNS`, and a line per word with push and running probability."""
    columns = zip(explanation.words, explanation.pushes, explanation.probabilities)
    lines = [f"{push:+8.3f}  {probability:11.4f}  {word}" for word, push, probability in columns]
    return "\n".join([COLUMNS, *lines])
