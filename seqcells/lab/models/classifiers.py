"""Classifiers of texts, recurrent and not: `tokens (T, B)`, padded with zeros, and `lengths (B,)`
to logits `(B,)`, the log-odds that a text is positive. Padding never changes a result.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqcells.lab.model_config import ModelConfig
from seqcells.lab.models.inputs import WordInputs
from seqcells.lab.models.readout import Readout
from seqcells.lab.models.recurrence import build_recurrence, recur
from seqcells.sequences import valid_steps


def word_inputs(config: ModelConfig, vocabulary_size: int) -> WordInputs:
    return WordInputs(
        vocabulary_size,
        config.embedding_size,
        dropout=config.embedding_dropout,
        ngrams=config.ngrams,
        buckets=config.ngram_buckets,
    )


class TextClassifier(nn.Module):
    """Word vectors, read one after the other by a recurrent network.

    Dropout on the word vectors is drawn before the recurrence and dropout before the head after
    it, so both backends see the same masks. Between several layers torch draws a mask for packed
    words, ours for padded ones.
    """

    def __init__(self, config: ModelConfig, vocabulary_size: int):
        super().__init__()
        self.bidirectional = config.bidirectional
        self.inputs = word_inputs(config, vocabulary_size)
        self.recurrent = build_recurrence(config)
        self.readout = Readout(config.readout, config.hidden_size * (1 + config.bidirectional))
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(self.readout.features, 1)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return self.classify(self.inputs(tokens), lengths)

    def classify(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """The logits of texts whose words have these vectors `(T, B, E)`."""
        outputs, final = self.recur(vectors, lengths)
        return self.head(self.dropout(self.readout(outputs, final, lengths))).squeeze(-1)

    def recur(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs `(T, B, D*H)` and the last layer's final hidden state `(B, D*H)`."""
        return recur(self.recurrent, inputs, lengths)


class PooledInputs(nn.Module):
    """A baseline: the same inputs, readout and head, and nothing recurrent in between."""

    def __init__(self, config: ModelConfig, vocabulary_size: int):
        super().__init__()
        self.inputs = word_inputs(config, vocabulary_size)
        self.readout = Readout(config.readout, config.embedding_size)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(self.readout.features, 1)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return self.classify(self.inputs(tokens), lengths)

    def classify(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """The logits of texts whose words have these vectors `(T, B, E)`."""
        last = vectors[lengths - 1, torch.arange(len(lengths), device=lengths.device)]
        return self.head(self.dropout(self.readout(vectors, last, lengths))).squeeze(-1)


class AveragedWords(nn.Module):
    """A baseline that ignores order: each word on its own gives a probability; their mean counts.

    The log-odds of that mean are the logit, so that the same loss serves every model.
    """

    def __init__(self, config: ModelConfig, vocabulary_size: int):
        super().__init__()
        self.inputs = word_inputs(config, vocabulary_size)
        self.head = nn.Linear(config.embedding_size, 1)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        word_logits = self.head(self.inputs(tokens)).squeeze(-1)
        padding = ~valid_steps(lengths, len(tokens))
        positive = F.logsigmoid(word_logits).masked_fill(padding, -torch.inf)
        negative = F.logsigmoid(-word_logits).masked_fill(padding, -torch.inf)
        return positive.logsumexp(0) - negative.logsumexp(0)


class WordWindow(nn.Module):
    """A baseline with a fixed view: the vectors of the first words, side by side, and one layer."""

    def __init__(self, config: ModelConfig, vocabulary_size: int):
        super().__init__()
        self.window = config.window
        self.inputs = word_inputs(config, vocabulary_size)
        self.hidden = nn.Linear(config.window * config.embedding_size, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden_size, 1)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        tokens = tokens.where(valid_steps(lengths, len(tokens)), 0)
        tokens = F.pad(tokens, (0, 0, 0, self.window))[: self.window]
        words = self.inputs(tokens)
        hidden = torch.tanh(self.hidden(words.transpose(0, 1).flatten(1)))
        return self.head(self.dropout(hidden)).squeeze(-1)
