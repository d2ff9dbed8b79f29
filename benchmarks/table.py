"""Format results as Markdown tables."""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.shapes import Shape

COLUMNS = ("step", "small", "medium", "ragged")  # the shapes of the geometric mean
PASSES = {False: 1, True: 3}  # the backward products cost twice the forward products


@dataclass(frozen=True)
class Row:
    """Medians and errors of one cell on one shape."""

    shape: Shape
    cell: str
    train: bool
    theirs: float  # seconds
    ours: float
    their_error: float
    our_error: float

    @property
    def mode(self) -> str:
        return "training" if self.train else "inference"

    @property
    def ratio(self) -> float:
        return self.theirs / self.ours

    @property
    def rate(self) -> float:
        """Operations per second of ours, counting matrix products only."""
        return PASSES[self.train] * self.shape.operations(self.cell) / self.ours


def table(rows: Sequence[Row], peak: float) -> Iterator[str]:
    """Yield a line for each row; `peak` is in operations per second."""
    yield (
        "| shape | layer | mode | torch.nn, ms | seqcells, ms | torch.nn / seqcells "
        "| error, torch.nn | error, seqcells | GFLOP/s | of peak |"
    )
    yield "|---|---|---|" + "---:|" * 7
    for row in rows:
        yield (
            f"| {row.shape} | {row.cell} | {row.mode} | {1e3 * row.theirs:.2f} "
            f"| {1e3 * row.ours:.2f} | {row.ratio:.2f} | {row.their_error:.1e} "
            f"| {row.our_error:.1e} | {row.rate / 1e9:.0f} | {row.rate / peak:.0%} |"
        )


def summary(rows: Sequence[Row]) -> Iterator[str]:
    """Yield geometric means over `COLUMNS`, packed against `lengths=`, the smallest ratio."""
    found = {(row.shape.name, row.cell, row.train): row for row in rows}
    cells = dict.fromkeys((row.cell, row.train, row.mode) for row in rows)
    names = {row.shape.name for row in rows}
    if names.issuperset(COLUMNS):
        yield f"| layer | mode | {' | '.join(COLUMNS)} | geometric mean |"
        yield "|---|---|" + "---:|" * (len(COLUMNS) + 1)
        for cell, train, mode in cells:
            ratios = [found[name, cell, train].ratio for name in COLUMNS]
            figures = [*ratios, statistics.geometric_mean(ratios)]
            yield f"| {cell} | {mode} | {' | '.join(f'{figure:.2f}' for figure in figures)} |"
        yield ""
    if names.issuperset(("ragged", "packed")):
        shares = [
            f"{cell} {mode} {found['packed', cell, train].ours / share.ours:.2f}"
            for cell, train, mode in cells
            if (share := found["ragged", cell, train])
        ]
        yield f"Our time with packed input over that with `lengths=`: {', '.join(shares)}."
    worst = min(rows, key=lambda row: row.ratio)
    yield f"Smallest ratio: {worst.ratio:.2f} ({worst.shape.name}, {worst.cell}, {worst.mode})."


def markdown(
    words: Sequence[str], figures: Sequence[str], rows: Iterable[Sequence[str]]
) -> Iterator[str]:
    """Yield a table: columns of words, then right-aligned columns of figures."""
    yield f"| {' | '.join([*words, *figures])} |"
    yield "|" + "---|" * len(words) + "---:|" * len(figures)
    for row in rows:
        yield f"| {' | '.join(row)} |"
