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


def test_splits_have_default_sizes_and_balanced_labels(corpus):
    assert {split: len(reviews) for split, reviews in corpus.items()} == {
        "train": 3000,
        "validation": 500,
        "test": 1000,
    }
    for reviews in corpus.values():
        assert 2 * sum(review.label for review in reviews) == len(reviews)


def test_twins_have_the_same_words_and_opposite_labels(corpus, vocabulary):
    for reviews in corpus.values():
        groups = defaultdict(list)
        for review in reviews:
            groups[review.group].append(review)
        for twins in groups.values():
            assert sorted(review.label for review in twins) == [0, 1]
            first, second = (vocabulary.tokenise(review.text) for review in twins)
            assert first != second
            assert Counter(first) == Counter(second)


def test_texts_and_groups_are_unique(corpus):
    reviews = [review for split in corpus.values() for review in split]
    assert len({review.text for review in reviews}) == len(reviews)
    groups = [{review.group for review in split} for split in corpus.values()]
    assert len(set.union(*groups)) == sum(map(len, groups))


def test_corpus_depends_only_on_the_seed(corpus):
    assert make_corpus() == corpus
    other = make_corpus(seed=1)
    texts = {review.text for review in corpus["train"]}
    assert sum(review.text in texts for review in other["train"]) < 30


def test_order_of_twins_is_random(corpus):
    firsts = {}
    for review in corpus["train"]:
        firsts.setdefault(review.group, review.label)
    assert 0.45 < sum(firsts.values()) / len(firsts) < 0.55


def test_lengths_and_positions_of_verdicts(corpus, vocabulary):
    verdict_words = {
        word
        for phrases in (POSITIVE, NEGATIVE)
        for kind in phrases.values()
        for phrase in kind
        for word in re.findall(r"\w+", phrase)
    } - {"a", "an"}
    lengths, positions, distances = [], [], []
    for review in corpus["train"]:
        tokens = vocabulary.tokenise(review.text)
        verdict = [n for n, token in enumerate(tokens) if token in verdict_words]
        lengths.append(len(tokens))
        positions.append(verdict[0])
        distances.append(len(tokens) - verdict[-1])
    assert min(lengths) >= 25
    assert max(lengths) <= 100
    assert sorted(distances)[len(distances) // 2] > 25
    assert len(set(positions)) > 40


def test_test_texts_have_no_unknown_words(corpus, vocabulary):
    unknown = [1 in vocabulary.encode(review.text) for review in corpus["test"]]
    assert sum(unknown) == 0


def features_of(reviews, vocabulary, extract):
    rows = torch.stack([extract(vocabulary.encode(review.text)) for review in reviews])
    return rows, torch.tensor([float(review.label) for review in reviews])


def linear_accuracy(corpus, vocabulary, extract):
    """Train a logistic regression; return its accuracy on the train and test splits."""
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


def test_bag_of_words_is_at_chance_level(corpus, vocabulary):
    def count(tokens):
        return torch.bincount(torch.tensor(tokens), minlength=len(vocabulary)).float()

    train, test = linear_accuracy(corpus, vocabulary, count)
    assert train == 0.5
    assert test == 0.5


def test_window_of_the_first_words_has_low_accuracy(corpus, vocabulary):
    def window(tokens, size=20):
        first = torch.tensor((tokens + [0] * size)[:size])
        return F.one_hot(first, len(vocabulary)).float().flatten()

    _, test = linear_accuracy(corpus, vocabulary, window)
    assert test < 0.65


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("size", [0, 7, -2])
def test_odd_or_small_sizes_raise(split, size):
    with pytest.raises(ValueError, match=f"even size of at least 2 for {split}, got {size}"):
        make_corpus(**{split: size})
