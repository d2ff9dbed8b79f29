import re
from collections import Counter, defaultdict

import pytest
import torch
from torch.nn import functional as F

from seqcells.lab.text import Vocabulary, make_corpus
from seqcells.lab.text.grammar import NEGATIVE, POSITIVE


@pytest.fixture(scope="module")
def corpus():
    return make_corpus()


@pytest.fixture(scope="module")
def vocabulary(corpus):
    return Vocabulary.build([review.text for review in corpus["train"]], progress=False)


def test_splits_have_their_sizes_and_half_of_each_label(corpus):
    assert {split: len(reviews) for split, reviews in corpus.items()} == {
        "train": 3000,
        "validation": 500,
        "test": 1000,
    }
    for reviews in corpus.values():
        assert 2 * sum(review.label for review in reviews) == len(reviews)


def test_every_text_has_a_twin_of_the_same_words(corpus, vocabulary):
    for reviews in corpus.values():
        groups = defaultdict(list)
        for review in reviews:
            groups[review.group].append(review)
        for twins in groups.values():
            assert sorted(review.label for review in twins) == [0, 1]
            first, second = (vocabulary.tokenise(review.text) for review in twins)
            assert first != second
            assert Counter(first) == Counter(second)


def test_no_text_and_no_group_stands_in_two_places(corpus):
    reviews = [review for split in corpus.values() for review in split]
    assert len({review.text for review in reviews}) == len(reviews)
    groups = [{review.group for review in split} for split in corpus.values()]
    assert len(set.union(*groups)) == sum(map(len, groups))


def test_corpus_depends_on_the_seed_alone(corpus):
    assert make_corpus() == corpus
    other = make_corpus(seed=1)
    texts = {review.text for review in corpus["train"]}
    assert sum(review.text in texts for review in other["train"]) < 30


def test_place_of_a_twin_tells_nothing(corpus):
    firsts = {}
    for review in corpus["train"]:
        firsts.setdefault(review.group, review.label)
    assert 0.45 < sum(firsts.values()) / len(firsts) < 0.55


def test_texts_are_30_to_90_tokens_with_most_verdicts_far_from_the_end(corpus, vocabulary):
    told = {
        word
        for phrases in (POSITIVE, NEGATIVE)
        for kind in phrases.values()
        for phrase in kind
        for word in re.findall(r"\w+", phrase)
    } - {"a", "an"}
    lengths, places, after = [], [], []
    for review in corpus["train"]:
        tokens = vocabulary.tokenise(review.text)
        verdict = [place for place, token in enumerate(tokens) if token in told]
        lengths.append(len(tokens))
        places.append(verdict[0])
        after.append(len(tokens) - verdict[-1])
    assert min(lengths) >= 25
    assert max(lengths) <= 100
    assert sorted(after)[len(after) // 2] > 25
    assert len(set(places)) > 40


def test_words_of_the_test_texts_are_known(corpus, vocabulary):
    unknown = [1 in vocabulary.encode(review.text) for review in corpus["test"]]
    assert sum(unknown) == 0


def features_of(reviews, vocabulary, extract):
    rows = torch.stack([extract(vocabulary.encode(review.text)) for review in reviews])
    return rows, torch.tensor([float(review.label) for review in reviews])


def linear_accuracy(corpus, vocabulary, extract):
    """Train a logistic regression to convergence; return its accuracy on train and test."""
    torch.manual_seed(0)
    train, labels = features_of(corpus["train"], vocabulary, extract)
    weight, bias = torch.zeros(train.shape[1], requires_grad=True), torch.zeros(1)
    optimiser = torch.optim.Adam([weight, bias.requires_grad_()], lr=0.05)
    for _ in range(150):
        optimiser.zero_grad()
        F.binary_cross_entropy_with_logits(train @ weight + bias, labels).backward()
        optimiser.step()
    test, expected = features_of(corpus["test"], vocabulary, extract)
    with torch.no_grad():
        scores = ((train, labels), (test, expected))
        return [float((((x @ weight + bias) > 0) == (y > 0)).float().mean()) for x, y in scores]


def test_bag_of_words_stays_at_chance(corpus, vocabulary):
    def count(tokens):
        return torch.bincount(torch.tensor(tokens), minlength=len(vocabulary)).float()

    train, test = linear_accuracy(corpus, vocabulary, count)
    assert train == 0.5
    assert test == 0.5


def test_window_of_the_first_words_is_not_enough(corpus, vocabulary):
    def window(tokens, size=20):
        first = torch.tensor((tokens + [0] * size)[:size])
        return F.one_hot(first, len(vocabulary)).float().flatten()

    _, test = linear_accuracy(corpus, vocabulary, window)
    assert test < 0.65


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("size", [0, 7, -2])
def test_sizes_that_cannot_hold_twins_are_refused(split, size):
    with pytest.raises(ValueError, match=f"even size of at least 2 for {split}, got {size}"):
        make_corpus(**{split: size})
