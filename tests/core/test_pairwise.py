"""`pairwise` covers what it promises."""

from itertools import combinations, product

import pytest
from pairwise import pairwise


@pytest.mark.parametrize("sizes", [(2, 3), (17, 3, 2), (28, 4, 2, 2, 2), (4, 3, 5)], ids=str)
def test_every_pair_of_values_occurs(sizes):
    rows = pairwise(*map(range, sizes))
    assert rows == pairwise(*map(range, sizes))
    assert len(set(rows)) == len(rows)
    for i, j in combinations(range(len(sizes)), 2):
        assert {(row[i], row[j]) for row in rows} == set(product(range(sizes[i]), range(sizes[j])))


def test_few_rows_cover_all_combinations_of_the_smaller_options():
    rows = pairwise(*map(range, (28, 4, 2, 2, 2)))
    assert len(rows) == 28 * 4
    assert len({row[1:] for row in rows}) == 4 * 2 * 2 * 2
