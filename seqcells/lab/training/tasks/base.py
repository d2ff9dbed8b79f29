"""The interface of a task: its data, its model, and the loss of the model's outputs."""

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
    """Reproducible batches: an epoch depends only on its number and can start at any batch."""

    def __len__(self) -> int: ...

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]: ...


@dataclass
class TrainingData:
    """Training and validation data. `Task.load_split` loads the test split."""

    vocabulary: Vocabulary | None
    train: Batches
    validation: Batches


class Judgement(NamedTuple):
    """Loss of a batch, summed over its labels, and number of correct answers."""

    loss: Tensor
    correct: Tensor | None = None  # None if the task has no accuracy
    state: Any = None  # final state, the initial state of the next batch
    penalty: Tensor | float = 0.0  # added to the loss in training, also a sum over labels


class Task(ABC):
    """Base class of tasks."""

    reads_text = True  # the task has a vocabulary
    uses_all_parameters = True  # every batch gives every parameter a gradient
    answers = False  # the task implements `answer`

    def __init__(self, config: Config):
        self.config = config

    @property
    def batch_size(self) -> int:
        """The number of examples per batch over all processes."""
        return self.config.training.batch_size * processes.world_size()

    @abstractmethod
    def load(self, vocabulary: Vocabulary | None = None) -> TrainingData:
        """Load training and validation data; build the vocabulary if it is None."""

    @abstractmethod
    def load_split(self, vocabulary: Vocabulary | None, split: str) -> Batches:
        """Load the batches of the split `"test"` or `"validation"`."""

    @abstractmethod
    def build(self, vocabulary: Vocabulary | None) -> nn.Module:
        """Build the model, with weights from torch's default generator."""

    def judge(
        self, model: nn.Module, batch: Batch, state: Any = None, smoothing: float = 0.0
    ) -> Judgement:
        """Run the model on a batch, from the initial `state`, and compute its loss."""
        return judge_classes(model(batch.inputs, batch.lengths), batch.labels, smoothing)

    def load_best(self, run: Run, vocabulary: Vocabulary | None) -> nn.Module:
        """Load the best model of a run of this task, in evaluation mode."""
        content = load_checkpoint(run.best, run.config)
        model = self.build(vocabulary)
        model.load_state_dict(content["model"])
        return model.eval()

    def begin(self, model: nn.Module, data: TrainingData) -> str | None:
        """Load pretrained weights into a new model; return a description of their source."""
        return None

    def answer(self, model: nn.Module, vocabulary: Vocabulary, text: str) -> str:
        """Return a trained model's answer to a text in one line."""
        raise NotImplementedError

    def count(self, batch: Batch) -> int:
        """Return the number of labels in a batch."""
        return int((batch.labels != IGNORED).sum())

    def scores(self, loss: float, correct: int, count: int) -> dict[str, float]:
        """Compute scores from the summed `loss` and the `correct` answers of `count` labels."""
        return {"accuracy": correct / count, "loss": loss / count}


@torch.no_grad()
def predict_logits(model: nn.Module, batches: Iterable[Batch]) -> Tensor:
    """Return the logits `(N,)` of all examples, in the order of the examples, on the CPU."""
    device = next(model.parameters()).device
    results = [
        (batch.indices, model(batch.inputs.to(device), batch.lengths.to(device)))
        for batch in batches
    ]
    logits = torch.empty(sum(len(indices) for indices, _ in results))
    for indices, values in results:
        logits[indices] = values.cpu()
    return logits


def describe(scores: dict[str, float]) -> str:
    """Format scores with their names: `accuracy 90.16%, loss 0.2530`."""
    return ", ".join(f"{name} {value}" for name, value in zip(scores, format_values(scores)))


def format_values(scores: dict[str, float]) -> list[str]:
    """Format the values of scores."""
    return [_format_score(name, value) for name, value in scores.items()]


def _format_score(name: str, value: float) -> str:
    if name == "accuracy":
        return f"{value:.2%}"
    if name == "perplexity":
        return f"{value:.2f}" if value < 1000 else f"{value:.0f}"
    return f"{value:.4f}"


def judge_classes(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Judgement:
    """Cross-entropy of logits `(..., C)` and labels `(...)`, without labels `IGNORED`."""
    logits, labels = logits.flatten(0, -2), labels.flatten()
    loss = F.cross_entropy(
        logits, labels, ignore_index=IGNORED, label_smoothing=smoothing, reduction="sum"
    )
    correct = (logits.argmax(-1) == labels) & (labels != IGNORED)
    return Judgement(loss, correct.sum())


def judge_binary(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Judgement:
    """Binary cross-entropy of log-odds `(B,)` and labels from 0 to 1."""
    targets = labels.to(logits.dtype) * (1 - smoothing) + smoothing / 2
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    return Judgement(loss, ((logits > 0) == (labels > 0.5)).sum())


def judge_numbers(values: Tensor, targets: Tensor, tolerance: float) -> Judgement:
    """Squared error; an answer is correct if its error is below `tolerance`."""
    error = values - targets
    correct = (error.detach().abs() < tolerance).sum()
    return Judgement(error.square().sum(), correct)


def count_tokens(batch: Batch) -> int:
    return int(torch.sum(batch.lengths))
