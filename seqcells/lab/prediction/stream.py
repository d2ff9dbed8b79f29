"""One word at a time: a probability after each, in constant time and memory."""

from typing import Any

import torch
from torch import nn

from seqcells.lab.models.classifiers import TextClassifier
from seqcells.lab.models.readout import RunningReadout
from seqcells.lab.text.vocabulary import Vocabulary


class Stream:
    """Reads a text as it comes; after each word, what the whole text so far is judged to be.

    Only the recurrent state, a running readout and the last few words are kept. A text longer
    than the run's `max_tokens`, of which prediction reads a part alone, is read to its end.
    """

    def __init__(self, model: nn.Module, vocabulary: Vocabulary):
        if not isinstance(model, TextClassifier):
            raise ValueError(
                "expected a recurrent model (model.kind), which reads word after word, "
                f"got {type(model).__name__}"
            )
        if model.bidirectional:
            raise ValueError(
                "expected a model of one direction, got one that reads texts from their end too; "
                "train with model.bidirectional false"
            )
        self.model, self.vocabulary = model, vocabulary
        self.probability: float | None = None  # of nothing read
        self._state: Any = None
        self._readout = RunningReadout(model.readout)
        self._last: list[int] = []

    @torch.no_grad()
    def read(self, text: str) -> float:
        """Read a word, or several, and return how likely the text so far is positive.

        Raises:
            ValueError: there are no words in `text`, and none were read before.
        """
        for token in self.vocabulary.encode(text):
            self._read(token)
        if self.probability is None:
            raise ValueError(f"expected at least one word to begin with, got {text!r}")
        return self.probability

    def _read(self, token: int) -> None:
        model = self.model
        self._last = [*self._last, token][-model.inputs.longest :]
        vector = model.inputs(torch.tensor(self._last).unsqueeze(1))[-1:]
        output, self._state = model.recurrent(vector, self._state)
        features = self._readout.add(output[0])
        self.probability = model.head(features).sigmoid().item()
