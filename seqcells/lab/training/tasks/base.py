"""What a model is trained for: where its data come from, and how its outputs are judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqcells.lab.text.batches import IGNORED, Batch
from seqcells.lab.text.vocabulary import Vocabulary
from seqcells.lab.training import processes
from seqcells.lab.training.checkpoints import load_checkpoint

if TYPE_CHECKING:
    from seqcells.lab.training.config import Config
    from seqcells.lab.training.runs import Run


class Batches(Protocol):
    """An epoch's batches: the same for the same number, from any place in the epoch."""

    def __len__(self) -> int: ...

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]: ...


@dataclass
class TrainingData:
    """What training sees. The test examples are not among it: see `Task.load_split`."""

    vocabulary: Vocabulary | None
    train: Batches
    validation: Batches


class Judgement(NamedTuple):
    """How a model does on a batch: the loss, summed over its labels, and how many are right."""

    loss: Tensor
    correct: Tensor | None = None  # None where no answer is right or wrong
    state: Any = None  # what the batch ends with, for the next one to go on from
    penalty: Tensor | float = 0.0  # a sum as well, to be learnt beside the loss


class Task(ABC):
    """One kind of training."""

    reads_text = True  # and has a vocabulary
    uses_all_parameters = True  # in every batch
    answers = False  # texts, one by one

    def __init__(self, config: Config):
        self.config = config

    @property
    def batch_size(self) -> int:
        """How many examples all processes together learn from at once."""
        return self.config.training.batch_size * processes.count()

    @abstractmethod
    def load(self, vocabulary: Vocabulary | None = None) -> TrainingData:
        """The training and validation batches; the words are counted unless they are given."""

    @abstractmethod
    def load_split(self, vocabulary: Vocabulary | None, split: str) -> Batches:
        """The batches of `"test"` or `"validation"` alone, to evaluate on."""

    @abstractmethod
    def build(self, vocabulary: Vocabulary | None) -> nn.Module:
        """The model; torch's random state decides its weights."""

    def judge(
        self, model: nn.Module, batch: Batch, state: Any = None, smoothing: float = 0.0
    ) -> Judgement:
        """Run the model over a batch, going on from `state`, and compare it with the labels."""
        return judge_classes(model(batch.inputs, batch.lengths), batch.labels, smoothing)

    def load_best(self, run: Run, vocabulary: Vocabulary | None) -> nn.Module:
        """The best model of a run of this task, ready to predict."""
        content = load_checkpoint(run.best, run.config)
        model = self.build(vocabulary)
        model.load_state_dict(content["model"])
        return model.eval()

    def begin(self, model: nn.Module, vocabulary: Vocabulary | None) -> str | None:
        """Give a fresh model what it is to start from; return what that was, for a person."""
        return None

    def answer(self, model: nn.Module, vocabulary: Vocabulary, text: str) -> str:
        """What a trained model says of a text, in a line, where the task `answers`."""
        raise NotImplementedError

    def count(self, batch: Batch) -> int:
        """How many labels a batch has."""
        return int((batch.labels != IGNORED).sum())

    def scores(self, loss: float, correct: int, count: int) -> dict[str, float]:
        """The figures of `count` labels, so many of them right, with the sum of their losses."""
        return {"accuracy": correct / count, "loss": loss / count}


@torch.no_grad()
def logits_of(model: nn.Module, batches: Iterable[Batch]) -> Tensor:
    """What `model` says of every example `(N,)`, in the order of the examples, on the CPU."""
    device = next(model.parameters()).device
    found = [
        (batch.indices, model(batch.inputs.to(device), batch.lengths.to(device)))
        for batch in batches
    ]
    logits = torch.empty(sum(len(indices) for indices, _ in found))
    for indices, values in found:
        logits[indices] = values.cpu()
    return logits


def describe(scores: dict[str, float]) -> str:
    """Scores for a person to read."""
    forms = {"accuracy": "{:.2%}", "perplexity": "{:.2f}"}
    return ", ".join(f"{name} {forms.get(name, '{:.4f}').format(scores[name])}" for name in scores)


def judge_classes(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Judgement:
    """Cross-entropy of logits `(..., C)` against labels `(...)`, leaving out what is `IGNORED`."""
    logits, labels = logits.flatten(0, -2), labels.flatten()
    loss = F.cross_entropy(
        logits, labels, ignore_index=IGNORED, label_smoothing=smoothing, reduction="sum"
    )
    correct = (logits.argmax(-1) == labels) & (labels != IGNORED)
    return Judgement(loss, correct.sum())


def judge_sides(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Judgement:
    """Cross-entropy of log-odds `(B,)` against labels 0 or 1, or what lies between."""
    wanted = labels.to(logits.dtype) * (1 - smoothing) + smoothing / 2
    loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
    return Judgement(loss, ((logits > 0) == (labels > 0.5)).sum())


def judge_numbers(values: Tensor, wanted: Tensor, tolerance: float) -> Judgement:
    """Squared errors; right is what is nearer than `tolerance`."""
    error = values - wanted
    correct = (error.detach().abs() < tolerance).sum()
    return Judgement(error.square().sum(), correct)


def tokens_of(batch: Batch) -> int:
    return int(torch.sum(batch.lengths))
