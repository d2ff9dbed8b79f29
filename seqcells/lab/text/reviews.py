"""Reviews, and a split that keeps groups of related reviews together."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple


class Review(NamedTuple):
    """One text with its label: 1 positive, 0 negative, None unknown.

    Reviews of one `group` (a film, or a pair of twins in the embedded corpus) are similar for
    reasons other than their label, so a group is never divided between splits.
    """

    text: str
    label: int | None
    group: str


def split_by_group(
    reviews: Sequence[Review], share: float, seed: int
) -> tuple[list[Review], list[Review]]:
    """Split into `(train, validation)`, with about `share` of each label in `validation`.

    Groups stay whole, the order of `reviews` is preserved, and the split depends only on the seed.
    """
    if not 0 < share < 1:
        raise ValueError(f"expected a share between 0 and 1, got {share}")
    groups: dict[str, Counter] = defaultdict(Counter)
    for review in reviews:
        groups[review.group][review.label] += 1
    chosen = _choose_groups(groups, share, seed)
    if not 0 < len(chosen) < len(groups):
        raise ValueError(
            f"expected groups small enough to split, got {len(groups)} groups in "
            f"{len(reviews)} reviews for a share of {share}; change the share or add reviews"
        )
    train = [review for review in reviews if review.group not in chosen]
    validation = [review for review in reviews if review.group in chosen]
    return train, validation


def _choose_groups(groups: dict[str, Counter], share: float, seed: int) -> set[str]:
    """Choose groups in random order if they bring the label counts closer to their targets."""
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
