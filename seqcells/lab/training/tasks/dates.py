"""Date normalisation with an encoder-decoder: many to many, of another length."""

import random
from datetime import date, timedelta
from typing import Any

import torch
from torch import nn

from seqcells.lab.models.inputs import END
from seqcells.lab.models.translation import EncoderDecoder
from seqcells.lab.text.batches import Batch, BucketedBatches
from seqcells.lab.text.vocabulary import Vocabulary
from seqcells.lab.training.tasks.base import Judgement, Task, TrainingData, judge_classes

FIRST, DAYS = date(1900, 1, 1), 73_000  # until 2099
EVALUATION_EXAMPLES = 1000
LENGTH = len("2004-05-03")
MONTHS = "January February March April May June July August September October November December"
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"


class Dates(Task):
    """Convert "3 May 2004", "Monday, May 3rd, 2004", "3.5.2004", ... to "2004-05-03".

    A greedily decoded answer is correct if all of its characters are.
    """

    answers = True

    def load(self, vocabulary: Vocabulary | None = None) -> TrainingData:
        pairs = self._pairs()
        if vocabulary is None:
            texts = [text for pair in pairs["train"] for text in pair]
            vocabulary = Vocabulary.of_characters(texts)
        training = self.config.training
        train = _batches(pairs["train"], vocabulary, self.batch_size, training.seed)
        validation = _batches(pairs["validation"], vocabulary, EVALUATION_EXAMPLES, None)
        return TrainingData(vocabulary, train, validation)

    def load_split(self, vocabulary: Vocabulary, split: str) -> BucketedBatches:
        return _batches(self._pairs()[split], vocabulary, EVALUATION_EXAMPLES, None)

    def build(self, vocabulary: Vocabulary) -> nn.Module:
        return EncoderDecoder(self.config.model, len(vocabulary))

    def judge(
        self, model: nn.Module, batch: Batch, state: Any = None, smoothing: float = 0.0
    ) -> Judgement:
        logits = model(batch.inputs, batch.lengths, batch.labels)
        judgement = judge_classes(logits, batch.labels, smoothing)
        if model.training:
            return judgement
        written = model.write(batch.inputs, batch.lengths, len(batch.labels))
        padded = torch.full_like(batch.labels, END)
        padded[: len(written)] = written
        correct = (padded == batch.labels).all(0).sum()
        return judgement._replace(correct=correct * len(batch.labels))

    def answer(self, model: nn.Module, vocabulary: Vocabulary, text: str) -> str:
        tokens = torch.tensor(vocabulary.encode(text)).unsqueeze(1)
        written = model.write(tokens, torch.tensor([len(tokens)]), LENGTH + 1)
        return vocabulary.join(number for number in written[:, 0].tolist() if number != END)

    def _pairs(self) -> dict[str, list[tuple[str, str]]]:
        """Return (text, ISO date) pairs of each split; splits have no days in common."""
        days = list(range(DAYS))
        random.Random(0).shuffle(days)
        sizes = {
            "validation": EVALUATION_EXAMPLES,
            "test": EVALUATION_EXAMPLES,
            "train": self.config.data.examples,
        }
        pairs, first = {}, 0
        for split, size in sizes.items():
            chosen = days[first : first + size]
            rng = random.Random(split)
            pairs[split] = [format_date(FIRST + timedelta(day), rng) for day in chosen]
            first += size
        return pairs


def format_date(day: date, rng: random.Random) -> tuple[str, str]:
    """Return a date in a random written form and in ISO 8601."""
    month, number = MONTHS.split()[day.month - 1], day.day
    weekday = WEEKDAYS.split()[day.weekday()]
    ending = "th" if number in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    forms = (
        f"{number} {month} {day.year}",
        f"{number} {month[:3]} {day.year}",
        f"{month} {number}, {day.year}",
        f"{month[:3]} {number}, {day.year}",
        f"{month} {number}{ending}, {day.year}",
        f"{weekday}, {month} {number}{ending}, {day.year}",
        f"the {number}{ending} of {month} {day.year}",
        f"{number}.{day.month}.{day.year}",
        f"{number:02}.{day.month:02}.{day.year}",
        f"{weekday}, {number}.{day.month}.{day.year}",
        f"{day.year}/{day.month}/{number}",
    )
    return rng.choice(forms), day.isoformat()


def _batches(
    pairs: list[tuple[str, str]], vocabulary: Vocabulary, batch_size: int, seed: int | None
) -> BucketedBatches:
    texts, dates = zip(*pairs)
    return BucketedBatches(
        list(map(vocabulary.encode, texts)),
        [[*vocabulary.encode(text), END] for text in dates],
        batch_size=batch_size,
        seed=seed or 0,
        shuffle=seed is not None,
    )
