"""Loading and splitting of reviews, shared by all tasks that read them."""

import os
import sys
from abc import abstractmethod

from tqdm import tqdm

from seqcells.lab.text.batches import BucketedBatches, truncate
from seqcells.lab.text.corpus import make_corpus
from seqcells.lab.text.imdb import read_imdb
from seqcells.lab.text.reviews import Review, split_by_group
from seqcells.lab.text.vocabulary import Vocabulary
from seqcells.lab.training.config import DataConfig
from seqcells.lab.training.tasks.base import Task, TrainingData

EVALUATION_BATCH = 256
SPLIT_SEED = 0  # the validation split does not depend on training.seed


class ReviewTask(Task):
    """Base class of tasks with one review per example, batched by similar length."""

    @abstractmethod
    def example(
        self, review: Review, vocabulary: Vocabulary
    ) -> tuple[list[int], int | float | list[int]]:
        """Return the tokens of a review and its label or labels."""

    def pseudo_label(self, unlabelled: list[Review]) -> list[Review]:
        """Return unlabelled reviews with predicted labels, or none of them."""
        return []

    def load(self, vocabulary: Vocabulary | None = None) -> TrainingData:
        reviews = read_reviews(self.config.data, ("train", "validation"))
        if vocabulary is None:
            texts = reviews["train"] + reviews["unsupervised"]
            vocabulary = build_vocabulary(texts, self.config.data)
        train = self._batches(
            reviews["train"] + self.pseudo_label(reviews["unsupervised"]),
            vocabulary,
            batch_size=self.batch_size,
            seed=self.config.training.seed,
        )
        return TrainingData(
            vocabulary, train, self.evaluation_batches(reviews["validation"], vocabulary)
        )

    def load_split(self, vocabulary: Vocabulary, split: str) -> BucketedBatches:
        reviews = read_reviews(self.config.data, (split,))
        return self.evaluation_batches(reviews[split], vocabulary)

    def evaluation_batches(self, reviews: list[Review], vocabulary: Vocabulary) -> BucketedBatches:
        """Batch reviews for evaluation; the indices of a batch are positions in `reviews`."""
        return self._batches(
            reviews, vocabulary, batch_size=EVALUATION_BATCH, seed=0, shuffle=False
        )

    def _batches(
        self, reviews: list[Review], vocabulary: Vocabulary, **settings
    ) -> BucketedBatches:
        bar = tqdm(reviews, "encoding texts", disable=None, delay=1, unit=" texts")
        examples, labels = [], []
        for review in bar:
            tokens, label = self.example(review, vocabulary)
            examples.append(tokens)
            labels.append(label)
        return BucketedBatches(examples, labels, **settings)


def read_reviews(config: DataConfig, splits: tuple[str, ...]) -> dict[str, list[Review]]:
    """Return the reviews of the splits, and `"unsupervised"` reviews for training if configured."""
    if config.source == "corpus":
        return make_corpus() | {"unsupervised": []}
    files = {"train" if split == "validation" else split for split in splits}
    if config.unlabelled and "train" in splits:
        files.add("unsupervised")
    path = config.path or os.environ.get("SEQCELLS_IMDB") or None
    reviews = read_imdb(path, splits=sorted(files), progress=sys.stderr.isatty())
    if "train" in reviews:
        labelled = reviews["train"]
        if config.validation_by == "review":
            labelled = [review._replace(group=str(n)) for n, review in enumerate(labelled)]
        reviews["train"], reviews["validation"] = split_by_group(
            labelled, config.validation_share, SPLIT_SEED
        )
    return {"unsupervised": []} | reviews


def build_vocabulary(reviews: list[Review], config: DataConfig) -> Vocabulary:
    return Vocabulary.build(
        [review.text for review in reviews],
        max_size=config.vocabulary_size,
        min_frequency=config.min_frequency,
        progress=sys.stderr.isatty(),
    )


def encode(text: str, vocabulary: Vocabulary, config: DataConfig) -> list[int]:
    """Encode and truncate a text as input of a model."""
    return truncate(vocabulary.encode(text), config.max_tokens, config.truncate)
