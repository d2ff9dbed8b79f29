"""Texts in, batches out: IMDB, the embedded corpus, vocabulary, vectors, bucketed batches."""

from seqcells.text.batches import Batch, BucketedBatches, truncate
from seqcells.text.corpus import make_corpus
from seqcells.text.imdb import read_imdb
from seqcells.text.reviews import Review, split_by_group
from seqcells.text.vectors import read_vectors
from seqcells.text.vocabulary import Vocabulary

__all__ = [
    "Batch",
    "BucketedBatches",
    "Review",
    "Vocabulary",
    "make_corpus",
    "read_imdb",
    "read_vectors",
    "split_by_group",
    "truncate",
]
