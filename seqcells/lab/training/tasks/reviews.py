"""The reviews that a configuration names, split; shared by all tasks that read them."""

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
SPLIT_SEED = 0  # the validation films stay the same whatever training.seed is


class ReviewTask(Task):
    """Reviews as examples in batches of similar length; a subclass gives each one its labels."""

    @abstractmethod
    def example(
        self, review: Review, vocabulary: Vocabulary
    ) -> tuple[list[int], int | float | list[int]]:
        """A review's tokens, and its label or labels."""

    def taught(self, unlabelled: list[Review]) -> list[Review]:
        """Those of the unlabelled reviews to learn from, with labels from elsewhere."""
        return []

    def load(self, vocabulary: Vocabulary | None = None) -> TrainingData:
        reviews = read_reviews(self.config.data, ("train", "validation"))
        if vocabulary is None:
            known = reviews["train"] + reviews["unsupervised"]
            vocabulary = count_words(known, self.config.data)
        train = self._batches(
            reviews["train"] + self.taught(reviews["unsupervised"]),
            vocabulary,
            batch_size=self.batch_size,
            seed=self.config.training.seed,
        )
        return TrainingData(vocabulary, train, self.to_evaluate(reviews["validation"], vocabulary))

    def load_split(self, vocabulary: Vocabulary, split: str) -> BucketedBatches:
        reviews = read_reviews(self.config.data, (split,))
        return self.to_evaluate(reviews[split], vocabulary)

    def to_evaluate(self, reviews: list[Review], vocabulary: Vocabulary) -> BucketedBatches:
        """Batches of these reviews; a batch's indices are places among them."""
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
    """The reviews of these splits; beside training ones, `"unsupervised"` if they are wanted."""
    if config.source == "corpus":
        return make_corpus() | {"unsupervised": []}
    files = {"train" if split == "validation" else split for split in splits}
    if config.unlabelled and "train" in splits:
        files.add("unsupervised")
    path = config.path or os.environ.get("SEQCELLS_IMDB") or None
    reviews = read_imdb(path, splits=sorted(files), progress=sys.stderr.isatty())
    if "train" in reviews:
        known = reviews["train"]
        if config.validation_by == "review":
            known = [review._replace(group=str(place)) for place, review in enumerate(known)]
        reviews["train"], reviews["validation"] = split_by_group(
            known, config.validation_share, SPLIT_SEED
        )
    return {"unsupervised": []} | reviews


def count_words(reviews: list[Review], config: DataConfig) -> Vocabulary:
    return Vocabulary.build(
        [review.text for review in reviews],
        max_size=config.vocabulary_size,
        min_frequency=config.min_frequency,
        progress=sys.stderr.isatty(),
    )


def encode(text: str, vocabulary: Vocabulary, config: DataConfig) -> list[int]:
    """One text as the numbers that a model sees."""
    return truncate(vocabulary.encode(text), config.max_tokens, config.truncate)
