"""The best model of a run with all that it needs to judge texts."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from seqcells.lab.explanation import Explanation, explain
from seqcells.lab.prediction.stream import Stream
from seqcells.lab.text.batches import BucketedBatches, truncate
from seqcells.lab.training import Run, load_best
from seqcells.lab.training.tasks.base import logits_of
from seqcells.lab.training.tasks.reviews import encode

BATCH = 256


class Classifier:
    """A trained classifier of texts; `model` and `vocabulary` are there to look at.

    ```python
    classifier = seqcells.load("runs/NAME")
    classifier.predict(["It is good, not bad."])
    ```

    Raises:
        ValueError: `run` learned something else, or its files are missing or damaged.
    """

    def __init__(self, run: Run):
        if run.config.task != "sentiment":
            raise ValueError(
                f"expected a run of the task sentiment, got {run.folder}, "
                f"which learned {run.config.task}"
            )
        self.run, self.config = run, run.config
        self.vocabulary = run.load_vocabulary()
        self.model = load_best(run, self.vocabulary)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text as the model reads them, cut to the run's `max_tokens`."""
        return encode(text, self.vocabulary, self.config.data)

    def predict(self, texts: Sequence[str], *, progress: bool = False) -> Tensor:
        """How likely each text is positive: float32 `(len(texts),)`.

        Texts of similar length are read together, at most 256 at a time.

        Raises:
            TypeError: `texts` is one string, or holds something else than strings.
            ValueError: a text has no words.
        """
        if isinstance(texts, str):
            raise TypeError("expected a list of texts, got one string; give [text]")
        encoded = [self._encoded(number, text) for number, text in enumerate(texts)]
        batches = BucketedBatches(
            encoded, [0] * len(encoded), batch_size=BATCH, seed=0, shuffle=False
        )
        bar = tqdm(batches.epoch(0), "predicting", len(batches), disable=not progress, delay=1)
        return logits_of(self.model, bar).sigmoid()

    def explain(self, text: str) -> Explanation:
        """What the model makes of a text, word after word.

        Raises:
            ValueError: the text has no words.
        """
        data = self.config.data
        words = truncate(self.vocabulary.tokenise(text), data.max_tokens, data.truncate)
        tokens = torch.tensor([self.vocabulary.number(word) for word in words], dtype=torch.int64)
        return explain(self.model, tokens, words)

    def stream(self) -> Stream:
        """A reader of one text, word by word.

        Raises:
            ValueError: the model reads texts from both ends, or is not recurrent.
        """
        return Stream(self.model, self.vocabulary)

    def _encoded(self, number: int, text: str) -> list[int]:
        if not isinstance(text, str):
            raise TypeError(f"expected texts, got {type(text).__name__} at index {number}")
        tokens = self.encode(text)
        if not tokens:
            raise ValueError(f"expected at least one word, got {text!r} at index {number}")
        return tokens


def load(run: str | Path) -> Classifier:
    """The classifier that a run's folder holds; see `Classifier`."""
    return Classifier(Run.open(run))
