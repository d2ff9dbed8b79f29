"""Short film reviews from a seeded grammar, in which only word order carries the label.

Every positive text has a negative twin of the same words, with the verdict and its opposite
exchanged: "it is good, not bad" and "it is bad, not good". A bag-of-words model is therefore at
chance level. In most texts the verdict comes early, after a lead-in of random length, and long
neutral text follows it. A model has to remember the verdict to the end.
"""

import random
import re

from seqcells.lab.text.grammar import FILLERS, LEADS, NEGATIVE, POSITIVE, SLOTS, VERDICTS
from seqcells.lab.text.reviews import Review

MAX_LEADS = 2
MIN_TOKENS, MAX_TOKENS = 30, 80  # a text ends with the sentence that reaches its target length
FINAL_VERDICT_SHARE = 0.3  # short distances make the long ones learnable


def make_corpus(
    *, seed: int = 0, train: int = 3000, validation: int = 500, test: int = 1000
) -> dict[str, list[Review]]:
    """Return the splits `"train"`, `"validation"` and `"test"`: disjoint texts, half positive.

    Twins share a group and are in the same split, at random positions.
    """
    sizes = {"train": train, "validation": validation, "test": test}
    for name, size in sizes.items():
        if size < 2 or size % 2:
            raise ValueError(f"expected an even size of at least 2 for {name}, got {size}")
    rng = random.Random(seed)
    seen: set[str] = set()
    corpus = {}
    for name, size in sizes.items():
        reviews = []
        while len(reviews) < size:
            positive, negative = _write_twins(rng)
            if positive not in seen:
                group = f"twins-{len(seen) // 2}"
                reviews += [Review(positive, 1, group), Review(negative, 0, group)]
                seen |= {positive, negative}
        rng.shuffle(reviews)
        corpus[name] = reviews
    return corpus


def _write_twins(rng: random.Random) -> tuple[str, str]:
    kind = rng.choice(list(VERDICTS))
    verdict = rng.choice(VERDICTS[kind])
    good, bad = rng.choice(POSITIVE[kind]), rng.choice(NEGATIVE[kind])
    before = [_fill(rng, lead) for lead in rng.sample(LEADS, rng.randint(0, MAX_LEADS))]
    after: list[str] = []
    target = rng.randint(MIN_TOKENS, MAX_TOKENS)
    while _count_tokens([*before, verdict, *after]) < target:
        after.append(_fill(rng, rng.choice(FILLERS)))
    if rng.random() < FINAL_VERDICT_SHARE:
        before, after = before + after, []
    positive, negative = (
        " ".join([*before, verdict.format(verdict=opinion, other=opposite), *after])
        for opinion, opposite in ((good, bad), (bad, good))
    )
    return positive, negative


def _fill(rng: random.Random, sentence: str) -> str:
    filled = re.sub(r"\{(\w+)\}", lambda slot: rng.choice(SLOTS[slot[1]]), sentence)
    return filled[0].upper() + filled[1:]


def _count_tokens(sentences: list[str]) -> int:
    return sum(len(re.findall(r"\w+|[^\w\s]", sentence)) for sentence in sentences)
