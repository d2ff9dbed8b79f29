"""Sentiment classification with the best model of a run."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from seqcells.lab.explanation import Explanation, explain
from seqcells.lab.prediction.stream import Stream
from seqcells.lab.text.batches import BucketedBatches, truncate
from seqcells.lab.training import Run, load_best
from seqcells.lab.training.tasks.base import predict_logits
from seqcells.lab.training.tasks.reviews import encode

BATCH = 256


class Classifier:
    """A trained sentiment classifier, with attributes `model`, `vocabulary` and `config`.

    ```python
    classifier = seqcells.load("runs/NAME")
    classifier.predict(["It is good, not bad."])
    ```

    Args:
        run: the run.
        quantize: "int8" or "bfloat16" to store the matrices of the recurrence in this dtype (see
            `seqcells.quantize`). Layers of `torch.nn` are replaced by those of seqcells first.

    Raises:
        ValueError: `run` is of another task, its files are missing or damaged, or `quantize` is
            another dtype or given for a model without a recurrence.
    """

    def __init__(self, run: Run, quantize: str | None = None):
        if run.config.task != "sentiment":
            raise ValueError(
                f"expected a run of the task sentiment, got {run.folder}, "
                f"a run of the task {run.config.task}"
            )
        self.run, self.config = run, run.config
        self.vocabulary = run.load_vocabulary()
        self.model = load_best(run, self.vocabulary, quantize)

    def encode(self, text: str) -> list[int]:
        """Encode a text as input of the model, truncated to the run's `max_tokens`."""
        return encode(text, self.vocabulary, self.config.data)

    def predict(self, texts: Sequence[str], *, progress: bool = False) -> Tensor:
        """Return the probability that each text is positive: float32 `(len(texts),)`.

        Texts are batched by similar length, at most 256 per batch.

        Raises:
            TypeError: `texts` is a string, or an item is not a string.
            ValueError: a text has no words.
        """
        if isinstance(texts, str):
            raise TypeError("expected a list of texts, got one string; pass [text]")
        encoded = [self._encode_valid(number, text) for number, text in enumerate(texts)]
        batches = BucketedBatches(
            encoded, [0] * len(encoded), batch_size=BATCH, seed=0, shuffle=False
        )
        bar = tqdm(batches.epoch(0), "predicting", len(batches), disable=not progress, delay=1)
        return predict_logits(self.model, bar).sigmoid()

    def explain(self, text: str) -> Explanation:
        """Explain the prediction of a text word by word.

        Raises:
            TypeError: `text` is not a string.
            ValueError: the text has no words.
        """
        if not isinstance(text, str):
            raise TypeError(
                f"expected one text as a string, got {type(text).__name__}; "
                "call explain once per text"
            )
        data = self.config.data
        words = truncate(self.vocabulary.tokenise(text), data.max_tokens, data.truncate)
        tokens = torch.tensor([self.vocabulary.number(word) for word in words], dtype=torch.int64)
        return explain(self.model, tokens, words)

    def stream(self) -> Stream:
        """Return a stream, which reads one text word by word.

        Raises:
            ValueError: the model is bidirectional or not recurrent.
        """
        return Stream(self.model, self.vocabulary)

    def _encode_valid(self, number: int, text: str) -> list[int]:
        if not isinstance(text, str):
            raise TypeError(f"expected texts, got {type(text).__name__} at index {number}")
        tokens = self.encode(text)
        if not tokens:
            raise ValueError(f"expected at least one word, got {text!r} at index {number}")
        return tokens


def load(run: str | Path, quantize: str | None = None) -> Classifier:
    """Load the classifier of a run's folder; see `Classifier`."""
    return Classifier(Run.open(run), quantize)
