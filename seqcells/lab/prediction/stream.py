"""Streaming prediction: one word at a time, in constant time and memory per word."""

from typing import Any

import torch
from torch import nn

from seqcells.lab.models.classifiers import TextClassifier
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
        if model.bidirectional:
            raise ValueError(
                "expected a unidirectional model, got a bidirectional one; "
                "train with model.bidirectional false"
            )
        self.model, self.vocabulary = model, vocabulary
        self.probability: float | None = None  # None before the first word
        self._state: Any = None
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
        output, self._state = model.recurrent(vector, self._state)
        features = self._readout.add(output[0])
        self.probability = model.head(features).sigmoid().item()
