"""Text classifiers, recurrent models and baselines.

Each maps `tokens (T, B)`, padded with zeros, and `lengths (B,)` to logits `(B,)`: the log-odds that
a text is positive. Padding does not change the result.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqcells.lab.model_config import ModelConfig
from seqcells.lab.models.inputs import word_inputs
from seqcells.lab.models.readout import Readout
from seqcells.lab.models.recurrence import build_recurrence, recur
from seqcells.sequences import valid_steps


class TextClassifier(nn.Module):
    """Recurrent classifier: word vectors, recurrent network, readout, linear head.

    Dropout masks outside the recurrence are sampled in the same order with both backends, so they
    are equal. Between layers, torch.nn samples a mask for packed steps and seqcells for padded
    ones.
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
        """Return the logits of texts with word vectors `(T, B, E)`."""
        outputs, final = self.recur(vectors, lengths)
        return self.head(self.dropout(self.readout(outputs, final, lengths))).squeeze(-1)

    def recur(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs `(T, B, D*H)` and the last layer's final hidden state `(B, D*H)`."""
        return recur(self.recurrent, inputs, lengths)


class PooledInputs(nn.Module):
    """Baseline with the same inputs, readout and head as `TextClassifier`, without a recurrence."""

    def __init__(self, config: ModelConfig, vocabulary_size: int):
        super().__init__()
        self.inputs = word_inputs(config, vocabulary_size)
        self.readout = Readout(config.readout, config.embedding_size)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(self.readout.features, 1)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return self.classify(self.inputs(tokens), lengths)

    def classify(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits of texts with word vectors `(T, B, E)`."""
        last = vectors[lengths - 1, torch.arange(len(lengths), device=lengths.device)]
        return self.head(self.dropout(self.readout(vectors, last, lengths))).squeeze(-1)


class AveragedWords(nn.Module):
    """Order-independent baseline: the mean of one probability per word.

    Returns the log-odds of the mean, so that all models use the same loss.
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
    """Fixed-window baseline: the concatenated vectors of the first words and one hidden layer."""

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
