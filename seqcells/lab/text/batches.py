"""Cut texts to length and batch those of similar length together."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

Token = TypeVar("Token", int, str)
IGNORED = -100  # a label that is none, as torch.nn.functional.cross_entropy has it
POOL = 100  # batches that are sorted by length together: less padding, yet still random batches


def truncate(
    tokens: Sequence[Token], max_tokens: int, keep: Literal["head", "tail", "head_tail"]
) -> list[Token]:
    """Keep at most `max_tokens`: the first, the last, or half of each (one more of the head)."""
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
    """Padded with zeros, time first; `indices` are the examples' places in the data.

    Inputs are tokens `(T, B)`, or real numbers `(T, B, I)`. A label is one an example `(B,)`, or
    one a step `(T, B)`, `IGNORED` where there is none. Where `resets (T, B)` is true something new
    begins, and what was read before it is to be forgotten.
    """

    inputs: Tensor
    lengths: Tensor  # (B,) int64
    labels: Tensor
    indices: Tensor  # (B,) int64
    resets: Tensor | None = None

    def map(self, function: Callable[[Tensor], Any]) -> "Batch":
        """The same with `function` of each tensor."""
        return Batch(*(part if part is None else function(part) for part in self))

    def part(self, number: int, parts: int) -> "Batch":
        """Every `parts`-th example from this number on: the parts are disjoint and miss none."""
        own = slice(number, None, parts)
        labels = self.labels[own] if self.labels.dim() == 1 else self.labels[:, own]
        resets = None if self.resets is None else self.resets[:, own]
        return Batch(self.inputs[:, own], self.lengths[own], labels, self.indices[own], resets)


def check_start(start: int, batches: int, unit: str = "batches") -> None:
    """Raise unless an epoch of so many batches can be begun there, or is just over."""
    if not 0 <= start <= batches:
        raise ValueError(f"expected start between 0 and {batches} {unit}, got {start}")


class BucketedBatches:
    """Batches of examples of similar length; each has a label, a class or a share, or several.

    With `shuffle`, the order of an epoch depends on the seed and the epoch's number alone, so
    that training can be resumed anywhere; without it, the longest come first in every epoch.
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
            raise ValueError(f"expected {len(examples)} labels, one an example, got {len(labels)}")
        for index, (example, label) in enumerate(zip(examples, labels)):
            if len(example) == 0:
                raise ValueError(f"expected examples with tokens, got an empty one at {index}")
            if not isinstance(label, (int, float, Sequence)) or isinstance(label, str):
                raise TypeError(
                    f"expected a label that is a number, or several, got {label!r} at {index}"
                )
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle
        self._examples = [torch.tensor(example, dtype=torch.int32) for example in examples]
        self._lengths = [len(example) for example in examples]
        shares = any(isinstance(label, float) for label in labels)
        self._labels = [torch.tensor(float(label) if shares else label) for label in labels]

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-len(self._lengths) // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number`, without the first `start` of them."""
        check_start(start, len(self))
        return (self._collate(indices) for indices in self._order(number)[start:])

    def padding_share(self, number: int) -> float:
        """The share of positions in epoch `number` that are padding."""
        batches = self._order(number)
        positions = sum(len(batch) * max(self._lengths[i] for i in batch) for batch in batches)
        return 1 - sum(self._lengths) / positions if positions else 0.0

    def _order(self, number: int) -> list[list[int]]:
        """Shuffle, cut into pools of many batches, sort inside each, shuffle the batches."""
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
            pad_sequence([self._examples[i] for i in indices]).long(),
            torch.tensor([self._lengths[i] for i in indices]),
            pad_sequence(labels, padding_value=IGNORED) if labels[0].dim() else torch.stack(labels),
            torch.tensor(indices),
        )
