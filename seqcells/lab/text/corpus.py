"""Short film reviews out of a seeded grammar, in which only the order of the words matters.

Every positive text has a negative twin of exactly the same words, with the verdict and its
opposite exchanged: "it is good, not bad" against "it is bad, not good". So whatever looks at words
alone is at chance. In most texts the verdict stands early, behind a lead-in of random length, and
long neutral talk follows it: what cannot remember has forgotten it by the end.
"""

import random
import re

from seqcells.lab.text.grammar import FILLERS, LEADS, NEGATIVE, POSITIVE, SLOTS, VERDICTS
from seqcells.lab.text.reviews import Review

MOST_LEADS = 2
SHORTEST, LONGEST = 30, 80  # tokens, before the last sentence is complete
AT_THE_END = 0.3  # a verdict must be seen from near before it can be remembered from afar


def make_corpus(
    *, seed: int = 0, train: int = 3000, validation: int = 500, test: int = 1000
) -> dict[str, list[Review]]:
    """Write `"train"`, `"validation"` and `"test"`: disjoint texts, half of each positive.

    Twins share a group and stand in the same split, in random places.
    """
    sizes = {"train": train, "validation": validation, "test": test}
    for name, size in sizes.items():
        if size < 2 or size % 2:
            raise ValueError(f"expected an even size of at least 2 for {name}, got {size}")
    rng = random.Random(seed)
    written: set[str] = set()
    corpus = {}
    for name, size in sizes.items():
        reviews = []
        while len(reviews) < size:
            positive, negative = _write_twins(rng)
            if positive not in written:
                group = f"twins-{len(written) // 2}"
                reviews += [Review(positive, 1, group), Review(negative, 0, group)]
                written |= {positive, negative}
        rng.shuffle(reviews)
        corpus[name] = reviews
    return corpus


def _write_twins(rng: random.Random) -> tuple[str, str]:
    kind = rng.choice(list(VERDICTS))
    verdict = rng.choice(VERDICTS[kind])
    good, bad = rng.choice(POSITIVE[kind]), rng.choice(NEGATIVE[kind])
    before = [_fill(rng, lead) for lead in rng.sample(LEADS, rng.randint(0, MOST_LEADS))]
    after: list[str] = []
    enough = rng.randint(SHORTEST, LONGEST)
    while _count_tokens([*before, verdict, *after]) < enough:
        after.append(_fill(rng, rng.choice(FILLERS)))
    if rng.random() < AT_THE_END:
        before, after = before + after, []
    positive, negative = (
        " ".join([*before, verdict.format(verdict=held, other=opposite), *after])
        for held, opposite in ((good, bad), (bad, good))
    )
    return positive, negative


def _fill(rng: random.Random, sentence: str) -> str:
    filled = re.sub(r"\{(\w+)\}", lambda slot: rng.choice(SLOTS[slot[1]]), sentence)
    return filled[0].upper() + filled[1:]


def _count_tokens(sentences: list[str]) -> int:
    return sum(len(re.findall(r"\w+|[^\w\s]", sentence)) for sentence in sentences)
