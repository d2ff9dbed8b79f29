"""Truncate texts and batch them by similar length."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

Token = TypeVar("Token", int, str)
IGNORED = -100  # the ignore_index of torch.nn.functional.cross_entropy
POOL = 100  # batches sorted by length together: less padding, and batches stay random


def truncate(
    tokens: Sequence[Token], max_tokens: int, keep: Literal["head", "tail", "head_tail"]
) -> list[Token]:
    """Keep at most `max_tokens`: the first, the last, or half of each, rounding the head up."""
    if max_tokens < 1:
        raise ValueError(f"expected max_tokens of at least 1, got {max_tokens}")
    heads = {"head": max_tokens, "tail": 0, "head_tail": (max_tokens + 1) // 2}
    if keep not in heads:
        raise ValueError(f"expected keep to be one of {list(heads)}, got {keep!r}")
    if len(tokens) <= max_tokens:
        return list(tokens)
    head = heads[keep]
    return [*tokens[:head], *tokens[len(tokens) - (max_tokens - head) :]]


class Batch(NamedTuple):
    """A batch, time first, padded with zeros; `indices` are the examples' positions in the data.

    Inputs are tokens `(T, B)` or real numbers `(T, B, I)`. Labels are one per example `(B,)` or one
    per step `(T, B)`, with `IGNORED` for steps without a label. `resets (T, B)` is true at steps
    that start from the initial state.
    """

    inputs: Tensor
    lengths: Tensor  # (B,) int64
    labels: Tensor
    indices: Tensor  # (B,) int64
    resets: Tensor | None = None

    def map(self, function: Callable[[Tensor], Any]) -> "Batch":
        """Apply `function` to each tensor."""
        return Batch(*(part if part is None else function(part) for part in self))

    def part(self, number: int, parts: int) -> "Batch":
        """Return every `parts`-th example, starting at `number`; the parts partition the batch."""
        rows = slice(number, None, parts)
        labels = self.labels[rows] if self.labels.dim() == 1 else self.labels[:, rows]
        resets = None if self.resets is None else self.resets[:, rows]
        return Batch(self.inputs[:, rows], self.lengths[rows], labels, self.indices[rows], resets)


def check_start(start: int, batches: int, unit: str = "batches") -> None:
    """Raise a ValueError unless `start` is from 0 to the number of `batches` in an epoch."""
    if not 0 <= start <= batches:
        raise ValueError(f"expected start between 0 and {batches} {unit}, got {start}")


class BucketedBatches:
    """Batches of examples of similar length, each with one label or a sequence of labels.

    With `shuffle`, the order of an epoch depends only on the seed and the epoch's number, so that
    training can resume at any batch. Without it, the longest examples come first in every epoch.

    Attributes:
        examples: the tokens of each example
        labels: the labels as given
    """

    def __init__(
        self,
        examples: Sequence[Sequence[int]],
        labels: Sequence[int | float] | Sequence[Sequence[int]],
        *,
        batch_size: int,
        seed: int,
        shuffle: bool = True,
    ):
        if batch_size < 1:
            raise ValueError(f"expected a batch_size of at least 1, got {batch_size}")
        if len(labels) != len(examples):
            raise ValueError(f"expected {len(examples)} labels, one per example, got {len(labels)}")
        for index, (example, label) in enumerate(zip(examples, labels)):
            if len(example) == 0:
                raise ValueError(
                    f"expected examples with tokens, got an empty example at index {index}"
                )
            if not isinstance(label, (int, float, Sequence)) or isinstance(label, str):
                raise TypeError(
                    f"expected a number or a sequence as label, got {label!r} at index {index}"
                )
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle
        self.examples = [torch.tensor(example, dtype=torch.int32) for example in examples]
        self._lengths = [len(example) for example in examples]
        self.labels = labels
        soft = any(isinstance(label, float) for label in labels)
        self._labels = [torch.tensor(float(label) if soft else label) for label in labels]

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-len(self._lengths) // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Iterate over the batches of epoch `number`, without the first `start`."""
        check_start(start, len(self))
        return (self._collate(indices) for indices in self._order(number)[start:])

    def padding_share(self, number: int) -> float:
        """Return the fraction of positions in epoch `number` that are padding."""
        batches = self._order(number)
        positions = sum(len(batch) * max(self._lengths[i] for i in batch) for batch in batches)
        return 1 - sum(self._lengths) / positions if positions else 0.0

    def _order(self, number: int) -> list[list[int]]:
        """Shuffle examples, sort each pool of batches by length, shuffle the batches."""
        order = list(range(len(self._lengths)))
        pool, size = POOL * self.batch_size, self.batch_size
        generator = random.Random(f"{self.seed} {number}")
        if self.shuffle:
            generator.shuffle(order)
        else:
            pool = max(len(order), 1)
        batches = []
        for first in range(0, len(order), pool):
            part = sorted(order[first : first + pool], key=self._lengths.__getitem__, reverse=True)
            batches += [part[i : i + size] for i in range(0, len(part), size)]
        if self.shuffle:
            generator.shuffle(batches)
        return batches

    def _collate(self, indices: list[int]) -> Batch:
        labels = [self._labels[i] for i in indices]
        return Batch(
            pad_sequence([self.examples[i] for i in indices]).long(),
            torch.tensor([self._lengths[i] for i in indices]),
            pad_sequence(labels, padding_value=IGNORED) if labels[0].dim() else torch.stack(labels),
            torch.tensor(indices),
        )
