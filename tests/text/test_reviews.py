from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqcells.lab.text import Review, make_corpus, split_by_group

GROUPS = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), min_size=30, max_size=60)


def reviews_of(groups):
    return [
        Review(f"{group} {label} {number}", label, f"film {group}")
        for group, counts in enumerate(groups)
        for label, count in enumerate(counts)
        for number in range(count)
    ]


@given(GROUPS, st.sampled_from([0.1, 0.25, 0.5]), st.integers(0, 3))
def test_split_keeps_groups_whole_and_labels_balanced(groups, share, seed):
    reviews = reviews_of([*groups, (1, 1), (1, 1), (2, 2)])
    train, validation = split_by_group(reviews, share, seed)
    assert sorted(train + validation) == sorted(reviews)
    films = {review.group for review in train}
    assert train == [review for review in reviews if review.group in films]
    assert not films & {review.group for review in validation}
    for label, count in Counter(review.label for review in reviews).items():
        chosen = sum(review.label == label for review in validation)
        assert abs(chosen - share * count) < 10


def test_split_depends_only_on_the_seed():
    reviews = reviews_of([(2, 2)] * 30)
    assert split_by_group(reviews, 0.2, 1) == split_by_group(reviews, 0.2, 1)
    assert split_by_group(reviews, 0.2, 1) != split_by_group(reviews, 0.2, 2)
    same = {r.text for r in split_by_group(reviews[::-1], 0.2, 1)[1]}
    assert same == {r.text for r in split_by_group(reviews, 0.2, 1)[1]}


def test_split_of_twins_is_exact():
    train, validation = split_by_group(make_corpus(train=200)["train"], 0.1, 0)
    assert Counter(review.label for review in validation) == {0: 10, 1: 10}
    assert Counter(review.label for review in train) == {0: 90, 1: 90}


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan")])
def test_invalid_share_raises(share):
    with pytest.raises(ValueError, match="expected a share between 0 and 1"):
        split_by_group(reviews_of([(1, 1)] * 4), share, 0)


def test_indivisible_reviews_raise():
    for reviews in ([], reviews_of([(50, 50)]), reviews_of([(50, 50), (50, 50)])):
        with pytest.raises(ValueError, match="groups small enough"):
            split_by_group(reviews, 0.1, 0)


def test_split_of_imdb_keeps_films_whole(real_imdb):
    train, validation = split_by_group(real_imdb["train"], 0.1, 0)
    assert len(train) + len(validation) == 25_000
    assert not {review.group for review in train} & {review.group for review in validation}
    labels = Counter(review.label for review in validation)
    assert all(abs(labels[label] - 1250) <= 30 for label in (0, 1))
