"""Input vectors of a recurrent network: words and hashed n-grams of words."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqcells.lab.model_config import ModelConfig

END, UNKNOWN = 0, 1  # END is the padding token, and starts and ends generated text
VECTOR_SCALE = 0.1
MULTIPLIER, PRIME = 1_000_003, 2**31 - 1


class WordDropout(nn.Module):
    """Dropout of whole word vectors.

    Element-wise dropout leaves every word recognisable, so it regularises less.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, vectors: Tensor) -> Tensor:
        mask = F.dropout(vectors.new_ones(*vectors.shape[:-1], 1), self.rate, self.training)
        return vectors * mask

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


def hash_ngrams(tokens: Tensor, longest: int) -> list[Tensor]:
    """Return the hash of the pair, triple, ... that ends at each token, each `(T, B)`."""
    number, numbers = tokens, []
    for back in range(1, longest):
        earlier = F.pad(tokens, (0, 0, back, 0))[: len(tokens)]
        number = (number * MULTIPLIER + earlier) % PRIME
        numbers.append(number)
    return numbers


class HashedNgrams(nn.Module):
    """Sum of the vectors of the word pairs (triples, ...) that end at each word.

    There are too many pairs for a vocabulary. Pairs with the same hash bucket share a vector
    (Weinberger et al. 2009; fastText, Joulin et al. 2016). The output at a word depends only on
    words up to it, so texts can be streamed.
    """

    def __init__(self, longest: int, buckets: int, size: int):
        super().__init__()
        self.longest = longest
        self.vectors = scale_embedding_(nn.Embedding(buckets, size))

    def forward(self, tokens: Tensor) -> Tensor:
        return sum(map(self.vectors, self.buckets(tokens)))

    def buckets(self, tokens: Tensor) -> list[Tensor]:
        """Return the bucket of the pair, triple, ... that ends at each token, each `(T, B)`."""
        return [
            number % self.vectors.num_embeddings for number in hash_ngrams(tokens, self.longest)
        ]

    def extra_repr(self) -> str:
        return f"longest={self.longest}"


class WordInputs(nn.Module):
    """Maps tokens `(T, B)` to input vectors `(T, B, E)`.

    Words and n-grams have separate dropout masks, so that the model does not rely on either.
    """

    def __init__(
        self, vocabulary_size: int, size: int, *, dropout: float, ngrams: int, buckets: int
    ):
        super().__init__()
        self.words = scale_embedding_(nn.Embedding(vocabulary_size, size, padding_idx=0))
        self.ngrams = HashedNgrams(ngrams, buckets, size) if ngrams > 1 else None
        self.dropout = WordDropout(dropout)

    @property
    def longest(self) -> int:
        """Return the largest number of tokens that an input vector depends on."""
        return 1 if self.ngrams is None else self.ngrams.longest

    def forward(self, tokens: Tensor) -> Tensor:
        vectors = self.dropout(self.words(tokens))
        if self.ngrams is not None:
            vectors = vectors + self.dropout(self.ngrams(tokens))
        return vectors


def word_inputs(config: ModelConfig, vocabulary_size: int) -> WordInputs:
    return WordInputs(
        vocabulary_size,
        config.embedding_size,
        dropout=config.embedding_dropout,
        ngrams=config.ngrams,
        buckets=config.ngram_buckets,
    )


def scale_embedding_(embedding: nn.Embedding) -> nn.Embedding:
    """Scale the initial weights down in place, so that learned components soon dominate."""
    with torch.no_grad():
        embedding.weight.mul_(VECTOR_SCALE)
    return embedding
