"""Texts of a configuration, as batches."""

import os
import sys
from dataclasses import dataclass

import torch
from torch import nn
from tqdm import tqdm

from seqcells.text.batches import BucketedBatches, truncate
from seqcells.text.corpus import make_corpus
from seqcells.text.imdb import read_imdb
from seqcells.text.reviews import Review, split_by_group
from seqcells.text.vectors import read_vectors
from seqcells.text.vocabulary import Vocabulary
from seqcells.training.config import Config, DataConfig

EVALUATION_BATCH = 256
SPLIT_SEED = 0  # the validation films stay the same whatever training.seed is


@dataclass
class TrainingData:
    """What training sees. The test texts are not among it: see `load_split`."""

    vocabulary: Vocabulary
    train: BucketedBatches
    validation: BucketedBatches


def load_data(config: Config, vocabulary: Vocabulary | None = None) -> TrainingData:
    """Read the training and validation texts; count the words unless a vocabulary is given."""
    reviews = _read(config.data, ("train", "validation"))
    if vocabulary is None:
        vocabulary = Vocabulary.build(
            [review.text for review in reviews["train"]],
            max_size=config.data.vocabulary_size,
            min_frequency=config.data.min_frequency,
            progress=sys.stderr.isatty(),
        )
    train = BucketedBatches(
        *_encode(reviews["train"], vocabulary, config.data),
        batch_size=config.training.batch_size,
        seed=config.training.seed,
    )
    return TrainingData(
        vocabulary, train, _to_evaluate(reviews["validation"], vocabulary, config.data)
    )


def load_split(config: Config, vocabulary: Vocabulary, split: str) -> BucketedBatches:
    """Read `"test"` or `"validation"` alone, to evaluate on."""
    return _to_evaluate(_read(config.data, (split,))[split], vocabulary, config.data)


def start_from_vectors(model: nn.Module, config: DataConfig, vocabulary: Vocabulary) -> int:
    """Copy pretrained word vectors into the model; return how many words were found."""
    vectors, found = read_vectors(config.vectors, vocabulary.words, progress=sys.stderr.isatty())
    words = model.inputs.words
    if vectors.shape[1] != words.embedding_dim:
        raise ValueError(
            f"model.embedding_size: expected {vectors.shape[1]}, "
            f"the size of the vectors in {config.vectors}, got {words.embedding_dim}"
        )
    with torch.no_grad():
        words.weight.copy_(vectors)
    return found


def encode(text: str, vocabulary: Vocabulary, config: DataConfig) -> list[int]:
    """One text as the numbers that a model sees."""
    return truncate(vocabulary.encode(text), config.max_tokens, config.truncate)


def _read(config: DataConfig, splits: tuple[str, ...]) -> dict[str, list[Review]]:
    if config.source == "corpus":
        return make_corpus()
    files = {"test" if split == "test" else "train" for split in splits}
    path = config.path or os.environ.get("SEQCELLS_IMDB") or None
    reviews = read_imdb(path, splits=sorted(files), progress=sys.stderr.isatty())
    if "train" in reviews:
        reviews["train"], reviews["validation"] = split_by_group(
            reviews["train"], config.validation_share, SPLIT_SEED
        )
    return reviews


def _encode(
    reviews: list[Review], vocabulary: Vocabulary, config: DataConfig
) -> tuple[list[list[int]], list[int]]:
    bar = tqdm(reviews, "encoding texts", disable=None, delay=1, unit=" texts")
    examples = [encode(review.text, vocabulary, config) for review in bar]
    return examples, [review.label for review in reviews]


def _to_evaluate(
    reviews: list[Review], vocabulary: Vocabulary, config: DataConfig
) -> BucketedBatches:
    examples, labels = _encode(reviews, vocabulary, config)
    return BucketedBatches(examples, labels, batch_size=EVALUATION_BATCH, seed=0, shuffle=False)
