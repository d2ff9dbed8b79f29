"""Streaming prediction: one word at a time, in constant time and memory per word."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import seqcells
from seqcells.kernels import cpu
from seqcells.lab.models.classifiers import TextClassifier
from seqcells.lab.models.ngram_regression import CombinedClassifier
from seqcells.lab.models.readout import RunningReadout
from seqcells.lab.text.vocabulary import Vocabulary


class Stream:
    """Reads a text word by word; `probability` is the prediction of the text so far.

    A stream stores the recurrent state, a running readout and the last few words. Unlike
    `Classifier.predict`, it does not truncate texts to the run's `max_tokens`.
    """

    def __init__(self, model: nn.Module, vocabulary: Vocabulary):
        if not isinstance(model, TextClassifier):
            raise ValueError(
                f"expected a recurrent model, got {type(model).__name__}; "
                "train with model.kind recurrent"
            )
        if isinstance(model, CombinedClassifier):
            raise ValueError(
                "expected a model that reads words one by one, got one with a regression on the "
                "n-grams of the whole text; train with model.ngram_regression 0"
            )
        if model.bidirectional:
            raise ValueError(
                "expected a unidirectional model, got a bidirectional one; "
                "train with model.bidirectional false"
            )
        self.model, self.vocabulary = model, vocabulary
        self.probability: float | None = None  # None before the first word
        self._step = _steps(model.recurrent)
        self._readout = RunningReadout(model.readout)
        self._last: list[int] = []

    @torch.no_grad()
    def read(self, text: str) -> float:
        """Read one or more words and return the probability that the text so far is positive.

        Raises:
            TypeError: `text` is not a string.
            ValueError: `text` has no words and no words were read before.
        """
        if not isinstance(text, str):
            raise TypeError(f"expected a string of one or more words, got {type(text).__name__}")
        for token in self.vocabulary.encode(text):
            self._read(token)
        if self.probability is None:
            raise ValueError(f"expected at least one word, got {text!r}")
        return self.probability

    def _read(self, token: int) -> None:
        model = self.model
        self._last = [*self._last, token][-model.inputs.longest :]
        vector = model.inputs(torch.tensor(self._last).unsqueeze(1))[-1:]
        features = self._readout.add(self._step(vector[0]))
        self.probability = model.head(features).sigmoid().item()


def _steps(recurrent: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return a function that maps the next input `(1, E)` to the output `(1, H)`."""
    weight = next(recurrent.parameters())
    supported = weight.is_cpu and weight.dtype in (torch.float32, torch.float64)  # by `Stepper`
    native = supported and cpu.unavailable() is None
    if native and not isinstance(recurrent, (nn.RNN, nn.GRU, nn.LSTM)):  # of torch.nn
        return seqcells.Stepper(recurrent)
    state: Any = None

    def step(input: Tensor) -> Tensor:
        nonlocal state
        outputs, state = recurrent(input.unsqueeze(0), state)
        return outputs[0]

    return step
