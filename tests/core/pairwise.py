"""Few cases in place of a full product: every pair of values of two options occurs in one."""

from collections import Counter
from itertools import combinations, product
from typing import Any

import pytest


def pairwise(*options: list[Any]) -> list[tuple[int, ...]]:
    """Return deterministic rows of indices that cover every pair of values of two options.

    Each row starts from the first pair that no row has yet. Every further option takes the value
    that covers most pairs; among equals, the one whose row of the smaller options is rarest.
    """
    sizes = [len(values) for values in options]
    largest = max(range(len(sizes)), key=sizes.__getitem__)
    pairs = [
        ((i, a), (j, b))
        for i, j in combinations(range(len(sizes)), 2)
        for a, b in product(range(sizes[i]), range(sizes[j]))
    ]
    uncovered, seen, rows = dict.fromkeys(pairs), Counter(), []

    def gain(row: dict[int, int], column: int, value: int) -> tuple[int, int]:
        fresh = sum(tuple(sorted([(column, value), other])) in uncovered for other in row.items())
        small = tuple(sorted((c, v) for c, v in (row | {column: value}).items() if c != largest))
        return fresh, -seen[small]

    while uncovered:
        row = dict(next(iter(uncovered)))
        for column in range(len(sizes)):
            if column not in row:
                row[column] = max(range(sizes[column]), key=lambda v, c=column: gain(row, c, v))
        for count in range(1, len(sizes) + 1):
            small = [(c, row[c]) for c in sorted(row) if c != largest]
            seen.update(combinations(small, count))
        for pair in combinations(sorted(row.items()), 2):
            uncovered.pop(pair, None)
        rows.append(tuple(row[column] for column in range(len(sizes))))
    return rows


def pairs_of(**options: Any) -> pytest.MarkDecorator:
    """Parametrize a test pairwise, and by the rest of the full product as slow tests.

    An option is a list of values, or a dictionary of values by the names that test ids show.
    """
    named = [
        values if isinstance(values, dict) else {str(value): value for value in values}
        for values in options.values()
    ]
    values = [list(part.items()) for part in named]
    quick = set(pairwise(*values))
    cases = []
    for row in product(*(range(len(part)) for part in values)):
        chosen = [part[index] for part, index in zip(values, row)]
        marks = [] if row in quick else [pytest.mark.slow]
        name = "-".join(name for name, _ in chosen)
        cases.append(pytest.param(*(value for _, value in chosen), marks=marks, id=name))
    indirect = [name for name in options if name == "each_backend"]
    return pytest.mark.parametrize(tuple(options), cases, indirect=indirect)
