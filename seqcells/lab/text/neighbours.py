"""Vectors of words and word pairs by what stands near them, counted and factorised."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.utils.extmath import randomized_svd
from torch import Tensor
from tqdm import tqdm

WINDOW = 5  # neighbours on either side; the nearest weighs five times the farthest
SMOOTHING = 0.75  # of how often words are neighbours, so that rare ones do not stand out
CHUNK = 500_000  # tokens that are counted at a time
FIRST_WORD = 2  # padding and the unknown word say nothing


class Neighbours:
    """Word vectors `(V, size)` out of which words stand near which in `texts`.

    Counted within five words, put as positive pointwise mutual information and factorised:
    `M = U S V'`, of which the vectors are `U sqrt(S)` (Levy, Goldberg & Dagan 2015). Words that can
    stand for each other have similar ones. Padding and the unknown word get zeros.
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
                "give a smaller embedding_size, or more texts"
            )
        self._texts, self._vocabulary_size, self._progress = texts, vocabulary_size, progress
        counts = self._count(lambda tokens: tokens, vocabulary_size, words=1)
        shares = np.asarray(counts.sum(0)).ravel() ** SMOOTHING
        if not shares.any():
            raise ValueError("expected texts of two known words and more, got none")
        self._shares = shares / shares.sum()
        _, strengths, directions = randomized_svd(
            self._information(counts), size, n_iter=4, random_state=0
        )
        self._project = directions.T / np.sqrt(strengths.clip(min=np.finfo(np.float32).eps))
        self.words = self._vectors(counts)

    def ngrams(self, number: Callable[[Tensor], Tensor], words: int, numbers: int) -> Tensor:
        """Vectors `(numbers, size)` in the same space for all that spans `words` words.

        `number` maps tokens `(T, 1)` to the number of what ends at each. Of what is never seen,
        the vector is zero.
        """
        return self._vectors(self._count(number, numbers, words))

    def _vectors(self, counts: csr_matrix) -> Tensor:
        return torch.from_numpy(self._information(counts) @ self._project).float()

    def _information(self, counts: csr_matrix) -> csr_matrix:
        """How much more often two meet than by chance, as a logarithm; nothing if less often."""
        totals = np.asarray(counts.sum(1)).ravel()
        counts = counts.tocoo()
        information = np.log(counts.data / (totals[counts.row] * self._shares[counts.col]))
        more = information > 0
        places = counts.row[more], counts.col[more]
        return csr_matrix((information[more], places), shape=counts.shape)

    def _count(self, number: Callable[[Tensor], Tensor], numbers: int, words: int) -> csr_matrix:
        """How often, weighted by nearness, each number `(numbers, V)` has each word beside it."""
        total = csr_matrix((numbers, self._vocabulary_size), dtype=np.float32)
        for tokens in self._chunks(WINDOW + words):
            rows = number(torch.from_numpy(tokens).unsqueeze(1)).squeeze(1).numpy()
            known = tokens >= FIRST_WORD
            whole = np.logical_and.reduce([np.roll(known, back) for back in range(words)])
            found = []
            for distance in range(1, WINDOW + 1):
                for shift in (distance, -(distance + words - 1)):
                    meets = whole & np.roll(known, -shift)
                    weights = np.full(
                        meets.sum(), (WINDOW + 1 - distance) / WINDOW, dtype=np.float32
                    )
                    found.append((weights, rows[meets], np.roll(tokens, -shift)[meets]))
            weights, rows, columns = map(np.concatenate, zip(*found))
            total += csr_matrix((weights, (rows, columns)), shape=total.shape)
        return total

    def _chunks(self, gap: int) -> Iterator[np.ndarray]:
        """Texts behind one another with `gap` paddings between them: nothing meets across."""
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
