"""What a recurrent network reads of its tokens: vectors of words, and of words side by side."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

END, UNKNOWN = 0, 1  # tokens: padding, which also begins and ends what is written; a rare word
VECTOR_SCALE = 0.1
MULTIPLIER, PRIME = 1_000_003, 2**31 - 1


class WordDropout(nn.Module):
    """Drop whole words: no text may lean on a few of them, and none is learned by heart.

    Dropping single elements of the vectors leaves every word recognisable.
    """

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def forward(self, vectors: Tensor) -> Tensor:
        kept = F.dropout(vectors.new_ones(*vectors.shape[:-1], 1), self.share, self.training)
        return vectors * kept

    def extra_repr(self) -> str:
        return f"share={self.share}"


class HashedNgrams(nn.Module):
    """The vectors of the word pairs (triples, ...) that end at each word, summed.

    Pairs are too many for a vocabulary: each has a bucket by its hash and shares its vector with
    whatever else falls there (Weinberger et al. 2009; fastText, Joulin et al. 2016). What stands
    at a word depends on the words up to it alone, so texts can be read as they come.
    """

    def __init__(self, longest: int, buckets: int, size: int):
        super().__init__()
        self.longest = longest
        self.vectors = small_vectors(nn.Embedding(buckets, size))

    def forward(self, tokens: Tensor) -> Tensor:
        return sum(map(self.vectors, self.buckets(tokens)))

    def buckets(self, tokens: Tensor) -> list[Tensor]:
        """Which vectors the pairs, the triples, ... have that end at each token `(T, B)`."""
        number, buckets = tokens, []
        for back in range(1, self.longest):
            earlier = F.pad(tokens, (0, 0, back, 0))[: len(tokens)]
            number = (number * MULTIPLIER + earlier) % PRIME
            buckets.append(number % self.vectors.num_embeddings)
        return buckets

    def extra_repr(self) -> str:
        return f"longest={self.longest}"


class WordInputs(nn.Module):
    """Tokens `(T, B)` to the vectors `(T, B, E)` that are read, one after the other.

    A word may be dropped where its pair is not, so that neither leans on the other.
    """

    def __init__(
        self, vocabulary_size: int, size: int, *, dropout: float, ngrams: int, buckets: int
    ):
        super().__init__()
        self.words = small_vectors(nn.Embedding(vocabulary_size, size, padding_idx=0))
        self.ngrams = HashedNgrams(ngrams, buckets, size) if ngrams > 1 else None
        self.dropout = WordDropout(dropout)

    @property
    def longest(self) -> int:
        """Of how many tokens, at most, a vector speaks."""
        return 1 if self.ngrams is None else self.ngrams.longest

    def forward(self, tokens: Tensor) -> Tensor:
        vectors = self.dropout(self.words(tokens))
        if self.ngrams is not None:
            vectors = vectors + self.dropout(self.ngrams(tokens))
        return vectors


def small_vectors(embedding: nn.Embedding) -> nn.Embedding:
    """Small to begin with: what is learned of a word soon outweighs what it happened to get."""
    with torch.no_grad():
        embedding.weight.mul_(VECTOR_SCALE)
    return embedding
