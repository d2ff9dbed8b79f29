"""Word and n-gram vectors from factorised co-occurrence counts."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.utils.extmath import randomized_svd
from torch import Tensor
from tqdm import tqdm

WINDOW = 5  # neighbours on either side, with weights from 1 (nearest) to 1/5
SMOOTHING = 0.75  # exponent of the context distribution: reduces the bias towards rare words
CHUNK = 500_000  # tokens counted at a time
FIRST_WORD = 2  # skips padding and the unknown word


class Neighbours:
    """Word vectors `(V, size)` from the co-occurrence of words in `texts`.

    Counts within a window of five words become positive pointwise mutual information, which is
    factorised: `M = U S V'`. The vectors are `U sqrt(S)` (Levy, Goldberg & Dagan 2015). Words with
    similar contexts have similar vectors. Padding and the unknown word get zeros.
    """

    def __init__(
        self,
        texts: Sequence[Sequence[int]],
        vocabulary_size: int,
        size: int,
        *,
        progress: bool = True,
    ):
        if not 1 <= size < vocabulary_size:
            raise ValueError(
                f"expected a size below the {vocabulary_size} words, got {size}; "
                "set a smaller model.embedding_size, or use more texts"
            )
        self._texts, self._vocabulary_size, self._progress = texts, vocabulary_size, progress
        counts = self._count(lambda tokens: tokens, vocabulary_size, words=1)
        shares = np.asarray(counts.sum(0)).ravel() ** SMOOTHING
        if not shares.any():
            raise ValueError("expected texts of at least two known words, got none")
        self._shares = shares / shares.sum()
        _, singular_values, right = randomized_svd(
            self._information(counts), size, n_iter=4, random_state=0
        )
        self._project = right.T / np.sqrt(singular_values.clip(min=np.finfo(np.float32).eps))
        self.words = self._vectors(counts)

    def ngrams(self, number: Callable[[Tensor], Tensor], words: int, numbers: int) -> Tensor:
        """Return vectors `(numbers, size)` of n-grams of `words` words, in the space of the words.

        `number` maps tokens `(T, 1)` to the number of the n-gram that ends at each token. N-grams
        that do not occur get zeros.
        """
        return self._vectors(self._count(number, numbers, words))

    def _vectors(self, counts: csr_matrix) -> Tensor:
        return torch.from_numpy(self._information(counts) @ self._project).float()

    def _information(self, counts: csr_matrix) -> csr_matrix:
        """Return the positive pointwise mutual information of the counts."""
        totals = np.asarray(counts.sum(1)).ravel()
        counts = counts.tocoo()
        information = np.log(counts.data / (totals[counts.row] * self._shares[counts.col]))
        positive = information > 0
        positions = counts.row[positive], counts.col[positive]
        return csr_matrix((information[positive], positions), shape=counts.shape)

    def _count(self, number: Callable[[Tensor], Tensor], numbers: int, words: int) -> csr_matrix:
        """Return distance-weighted co-occurrence counts `(numbers, V)` of n-grams and words."""
        total = csr_matrix((numbers, self._vocabulary_size), dtype=np.float32)
        for tokens in self._chunks(WINDOW + words):
            rows = number(torch.from_numpy(tokens).unsqueeze(1)).squeeze(1).numpy()
            known = tokens >= FIRST_WORD
            whole = np.logical_and.reduce([np.roll(known, back) for back in range(words)])
            entries = []
            for distance in range(1, WINDOW + 1):
                for shift in (distance, -(distance + words - 1)):
                    pairs = whole & np.roll(known, -shift)
                    weights = np.full(
                        pairs.sum(), (WINDOW + 1 - distance) / WINDOW, dtype=np.float32
                    )
                    entries.append((weights, rows[pairs], np.roll(tokens, -shift)[pairs]))
            weights, rows, columns = map(np.concatenate, zip(*entries))
            total += csr_matrix((weights, (rows, columns)), shape=total.shape)
        return total

    def _chunks(self, gap: int) -> Iterator[np.ndarray]:
        """Concatenate texts, with `gap` paddings so that no window crosses a boundary."""
        padding = [0] * gap
        chunk: list[int] = []
        bar = tqdm(
            self._texts, "counting neighbours", disable=not self._progress, delay=1, unit=" texts"
        )
        for text in bar:
            chunk += [*text, *padding]
            if len(chunk) >= CHUNK:
                yield np.array(chunk)
                chunk = []
        if chunk:
            yield np.array(chunk)
