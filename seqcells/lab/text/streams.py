"""Texts one after the other in parallel columns, cut into windows: for what reads on and on."""

import random
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from seqcells.lab.text.batches import IGNORED, Batch, check_start

END = 0  # padding's number: it begins a text when it is read, and ends one when it is predicted


class TextStreams:
    """Windows of `steps` tokens of `batch_size` streams, each going on where the last one ended.

    A stream is text after text, each behind an `END`, where `resets` are true; the label of a
    token is the next one, or `END`. The last columns may end earlier: their labels are `IGNORED`.
    With `shuffle`, the order of the texts depends on the seed and the epoch's number alone.
    """

    def __init__(
        self,
        texts: Sequence[Sequence[int]],
        *,
        batch_size: int,
        steps: int,
        seed: int,
        shuffle: bool = True,
    ):
        if batch_size < 1 or steps < 1:
            raise ValueError(
                f"expected a batch_size and steps of at least 1, got {batch_size} and {steps}"
            )
        if not texts:
            raise ValueError("expected at least one text, got none")
        self.batch_size, self.steps, self.seed, self.shuffle = batch_size, steps, seed, shuffle
        self._texts = [torch.tensor([END, *text], dtype=torch.int32) for text in texts]
        tokens = sum(map(len, self._texts))
        self._length = -(-tokens // batch_size)

    def __len__(self) -> int:
        """Windows an epoch."""
        return -(-self._length // self.steps)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The windows of epoch `number`, without the first `start` of them."""
        check_start(start, len(self), "windows")
        inputs, labels = self._columns(number)
        return (self._window(inputs, labels, n) for n in range(start, len(self)))

    def _columns(self, number: int) -> tuple[Tensor, Tensor]:
        """All of the epoch as inputs and labels `(T, B)`."""
        order = list(range(len(self._texts)))
        if self.shuffle:
            random.Random(f"{self.seed} {number}").shuffle(order)
        tokens = torch.cat([self._texts[n] for n in order]).long()
        following = torch.cat([tokens[1:], tokens.new_tensor([END])])
        size = self._length * self.batch_size
        inputs, labels = tokens.new_full((size,), END), tokens.new_full((size,), IGNORED)
        inputs[: len(tokens)], labels[: len(tokens)] = tokens, following
        columns = self.batch_size, self._length
        return inputs.view(columns).T.contiguous(), labels.view(columns).T.contiguous()

    def _window(self, inputs: Tensor, labels: Tensor, number: int) -> Batch:
        steps = slice(number * self.steps, (number + 1) * self.steps)
        tokens = inputs[steps]
        lengths = torch.full((self.batch_size,), len(tokens))
        places = torch.arange(self.batch_size)
        return Batch(tokens, lengths, labels[steps], places, tokens == END)
