"""The batches of the benchmarks. Must not import torch: `benchmarks.memory`."""

import random
from dataclasses import dataclass
from typing import Literal

# Tokens of the 25,000 IMDB training reviews (Maas et al., 2011), uncut, as `Vocabulary.tokenise`
# (torchtext's basic_english) counts them: the quantiles 0, 0.05, ..., 1.
IMDB_QUANTILES = (
    *(11, 75, 105, 127, 139, 147, 156, 165, 176, 188, 202),
    *(219, 239, 263, 292, 329, 374, 436, 530, 692, 2752),
)
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@dataclass(frozen=True)
class Shape:
    """A batch and the layers that read it.

    `given` is the form of the input. "padded": all rows have the same length. "lengths": packed
    for torch within the measured time, passed to ours as `lengths=`. "packed": both sides get a
    `PackedSequence` that exists before.
    """

    name: str
    steps: int
    batch: int
    features: int
    hidden: int
    layers: int = 1
    bidirectional: bool = False
    given: Literal["padded", "lengths", "packed"] = "padded"
    lengths: tuple[int, ...] | None = None

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def tokens(self) -> int:
        """Number of steps over all rows, without padding."""
        return self.steps * self.batch if self.lengths is None else sum(self.lengths)

    def operations(self, cell: str) -> int:
        """Return the multiplications and additions of the forward products, without padding."""
        return 2 * self.tokens * self._weights(cell)

    def moved(self, cell: str) -> int:
        """Return the minimum of numbers that a forward pass reads and writes, without padding.

        Each weight once, and the input and output of each layer.
        """
        steps = sum(width + self.hidden * self.directions for width in self._widths())
        return self._weights(cell) + self.tokens * steps

    def _widths(self) -> list[int]:
        """Return the input size of each layer."""
        return [self.features] + [self.hidden * self.directions] * (self.layers - 1)

    def _weights(self, cell: str) -> int:
        rows = GATES[cell] * self.hidden * self.directions
        return sum(rows * (width + self.hidden) for width in self._widths())

    def __str__(self) -> str:
        sign = "=" if self.lengths is None else "≤"
        sizes = f"T{sign}{self.steps} B={self.batch} I={self.features} H={self.hidden}"
        return f"{self.name}: {sizes}"


def imdb_lengths(rows: int, longest: int, shuffle: bool = False) -> tuple[int, ...]:
    """Return `rows` lengths, evenly over IMDB's distribution, cut; longest first, or shuffled."""
    lengths = []
    for row in range(rows):
        place = (row + 0.5) / rows * (len(IMDB_QUANTILES) - 1)
        below, share = int(place), place % 1
        low, high = IMDB_QUANTILES[below : below + 2]
        lengths.append(min(round(low + share * (high - low)), longest))
    lengths.reverse()
    if shuffle:
        random.Random(0).shuffle(lengths)
    return tuple(lengths)


def _ragged(name: str, given: str = "lengths", shuffle: bool = False) -> Shape:
    lengths = imdb_lengths(64, longest=400, shuffle=shuffle)
    return Shape(name, 400, 64, 100, 128, given=given, lengths=lengths)


# The shapes of a family are timed in turn, so they are comparable with each other too.
FAMILIES = (
    (Shape("step", 200, 1, 100, 64),),
    (Shape("small", 200, 32, 100, 128),),
    (Shape("medium", 200, 64, 100, 256),),
    (_ragged("ragged"), _ragged("packed", given="packed"), _ragged("unsorted", shuffle=True)),
    (Shape("large", 200, 64, 100, 512),),
    (Shape("bidirectional", 200, 32, 100, 128, bidirectional=True),),
    (Shape("two layers", 200, 32, 100, 128, layers=2),),
)
SHAPES = {shape.name: shape for family in FAMILIES for shape in family}
