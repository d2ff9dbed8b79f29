"""Text data: IMDB, the embedded corpus, vocabulary, word vectors, bucketed batches."""

from seqcells.lab.text.batches import Batch, BucketedBatches, truncate
from seqcells.lab.text.corpus import make_corpus
from seqcells.lab.text.imdb import read_imdb
from seqcells.lab.text.reviews import Review, split_by_group
from seqcells.lab.text.vectors import read_vectors
from seqcells.lab.text.vocabulary import Vocabulary

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
