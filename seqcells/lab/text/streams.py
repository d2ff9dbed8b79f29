"""Concatenated texts in parallel streams, cut into windows for truncated backpropagation."""

import random
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from seqcells.lab.text.batches import IGNORED, Batch, check_start

END = 0  # the padding token: starts a text as an input and ends it as a label


class TextStreams:
    """Consecutive windows of `steps` tokens from `batch_size` streams.

    A stream is a sequence of texts, each preceded by `END`, where `resets` is true. The label of a
    token is the next token, or `END`. Streams are padded at the end with labels `IGNORED`. With
    `shuffle`, the order of the texts depends only on the seed and the epoch's number.
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
        """Return the number of windows in an epoch."""
        return -(-self._length // self.steps)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Iterate over the windows of epoch `number`, without the first `start`."""
        check_start(start, len(self), "windows")
        inputs, labels = self._columns(number)
        return (self._window(inputs, labels, n) for n in range(start, len(self)))

    def _columns(self, number: int) -> tuple[Tensor, Tensor]:
        """Return the inputs and labels `(T, B)` of the whole epoch."""
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
        indices = torch.arange(self.batch_size)
        return Batch(tokens, lengths, labels[steps], indices, tokens == END)
