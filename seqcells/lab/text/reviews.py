"""A review, and a split of reviews that keeps what belongs together on one side."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple


class Review(NamedTuple):
    """One text with its label: 1 positive, 0 negative, None unknown.

    Reviews of one `group` (a film; a pair of twins in the embedded corpus) resemble each other
    for reasons other than their label, so no split may part them.
    """

    text: str
    label: int | None
    group: str


def split_by_group(
    reviews: Sequence[Review], share: float, seed: int
) -> tuple[list[Review], list[Review]]:
    """Split into `(train, validation)`, about `share` of each label in the second.

    No group stands on both sides, both keep the order of `reviews`, and the same seed always
    gives the same split.
    """
    if not 0 < share < 1:
        raise ValueError(f"expected a share between 0 and 1, got {share}")
    groups: dict[str, Counter] = defaultdict(Counter)
    for review in reviews:
        groups[review.group][review.label] += 1
    chosen = _choose_groups(groups, share, seed)
    if not 0 < len(chosen) < len(groups):
        raise ValueError(
            f"expected groups small enough to be split, got {len(groups)} groups in "
            f"{len(reviews)} reviews for a share of {share}; change the share or add reviews"
        )
    train = [review for review in reviews if review.group not in chosen]
    validation = [review for review in reviews if review.group in chosen]
    return train, validation


def _choose_groups(groups: dict[str, Counter], share: float, seed: int) -> set[str]:
    """Take groups in random order, each one that brings every label closer to its share."""
    missing = {
        label: share * count for label, count in sum(groups.values(), start=Counter()).items()
    }
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    chosen = set()
    for group in order:
        labels = groups[group]
        closer = sum(abs(missing[k]) - abs(missing[k] - count) for k, count in labels.items())
        if closer > 0:
            chosen.add(group)
            for label, count in labels.items():
                missing[label] -= count
    return chosen
