import numpy as np
import pytest
import torch

from seqcells.lab.text.neighbours import SMOOTHING, WINDOW, Neighbours

WORDS = 12


def texts(seed=0, count=40):
    random = np.random.default_rng(seed)
    return [random.integers(0, WORDS, random.integers(1, 30)).tolist() for _ in range(count)]


def count_pairs(texts, ngram):
    """Count co-occurrences in a loop. `ngram(text, position)` is (number, words of the n-gram)."""
    counts = {}
    for text in texts:
        for last in range(len(text)):
            number, words = ngram(text, last)
            first = last - words + 1
            if first < 0 or min(text[first : last + 1]) < 2:
                continue
            for other, word in enumerate(text):
                distance = max(other - last, first - other)
                if word >= 2 and 1 <= distance <= WINDOW:
                    weight = (WINDOW + 1 - distance) / WINDOW
                    counts[number, word] = counts.get((number, word), 0) + weight
    return counts


def information(counts, rows, shares):
    table = np.zeros((rows, WORDS))
    for pair, weight in counts.items():
        table[pair] = weight
    totals = table.sum(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(np.log(table / (totals * shares)), nan=0.0, neginf=0.0).clip(min=0)


def reference_information(texts):
    """Return the information of words and the smoothed distribution of contexts."""
    counts = count_pairs(texts, lambda text, last: (text[last], 1))
    shares = np.zeros(WORDS)
    for (_, word), weight in counts.items():
        shares[word] += weight
    shares = shares**SMOOTHING / (shares**SMOOTHING).sum()
    return information(counts, WORDS, shares), shares


def test_products_of_vectors_approximate_the_information():
    neighbours = Neighbours(texts(), WORDS, WORDS - 3, progress=False)
    table, _ = reference_information(texts())
    left, singular_values, _ = np.linalg.svd(table)
    expected = left[:, : WORDS - 3] * np.sqrt(singular_values[: WORDS - 3])
    products = torch.from_numpy(expected @ expected.T)
    torch.testing.assert_close(
        neighbours.words.double() @ neighbours.words.double().T, products, atol=1e-4, rtol=1e-4
    )


def test_pairs_are_in_the_space_of_words():
    def number(tokens):
        previous = torch.cat([torch.zeros_like(tokens[:1]), tokens[:-1]])
        return previous * WORDS + tokens

    neighbours = Neighbours(texts(), WORDS, WORDS - 3, progress=False)
    pairs = neighbours.ngrams(number, words=2, numbers=WORDS * WORDS)
    counts = count_pairs(texts(), lambda text, last: (text[last - 1] * WORDS + text[last], 2))
    table, shares = reference_information(texts())
    _, singular_values, right = np.linalg.svd(table)
    size = WORDS - 3
    project = right[:size].T / np.sqrt(singular_values[:size])
    expected = torch.from_numpy(information(counts, WORDS * WORDS, shares) @ project)
    words = torch.from_numpy(table @ project)
    torch.testing.assert_close(
        pairs.double() @ neighbours.words.double().T, expected @ words.T, atol=1e-4, rtol=1e-4
    )
    assert not pairs[0].any()  # does not occur


def test_words_with_equal_contexts_have_similar_vectors():
    frames = ["2 3 {} 4 5", "4 {} 3 2", "5 2 {}"]
    alike = [[int(w) for w in frame.format(word).split()] for frame in frames for word in (6, 7)]
    other = [[8, 9, 10, 9, 8, 10, 11, 8]] * 3
    vectors = Neighbours(alike + other, WORDS, 4, progress=False).words
    similar = torch.nn.functional.cosine_similarity
    assert similar(vectors[6], vectors[7], dim=0) > 0.99
    assert similar(vectors[6], vectors[9], dim=0) < 0.1


def test_chunk_size_does_not_change_vectors(monkeypatch):
    whole = Neighbours(texts(), WORDS, 5, progress=False).words
    monkeypatch.setattr("seqcells.lab.text.neighbours.CHUNK", 7)
    torch.testing.assert_close(Neighbours(texts(), WORDS, 5, progress=False).words, whole)


def test_words_without_counts_have_zero_vectors():
    vectors = Neighbours(texts(), WORDS + 1, 5, progress=False).words
    assert not vectors[[0, 1, WORDS]].any()
    assert vectors[2:WORDS].any(1).all()


@pytest.mark.parametrize("size", [0, WORDS, 100])
def test_too_large_size_raises(size):
    with pytest.raises(ValueError, match="expected a size below the 12 words"):
        Neighbours(texts(), WORDS, size, progress=False)


def test_texts_without_pairs_raise():
    with pytest.raises(ValueError, match="expected texts of at least two known words"):
        Neighbours([[3], [1, 0, 4]], WORDS, 2, progress=False)
