"""Classifiers of texts: word vectors, a recurrence, a readout, one logit; and two baselines.

Every model maps `tokens (T, B)`, padded with zeros, and `lengths (B,)` to logits `(B,)`:
the log-odds that a text is positive. Padding never changes a result.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import seqcells
from seqcells.model_config import CELLS, LAYERS, ModelConfig, modified
from seqcells.sequences import valid_steps

VECTOR_SCALE = 0.1


def maximum_over_time(outputs: Tensor, lengths: Tensor) -> Tensor:
    """The largest output of each unit `(B, H)` within each text."""
    padding = ~valid_steps(lengths, len(outputs)).unsqueeze(-1)
    return outputs.masked_fill(padding, -torch.inf).amax(0)


def mean_over_time(outputs: Tensor, lengths: Tensor) -> Tensor:
    """The mean output of each unit `(B, H)` within each text."""
    words = valid_steps(lengths, len(outputs)).unsqueeze(-1)
    return outputs.where(words, 0).sum(0) / lengths.unsqueeze(-1)


def word_vectors(vocabulary_size: int, size: int) -> nn.Embedding:
    """Small random vectors: what is learned of a word soon outweighs what it happened to get."""
    embedding = nn.Embedding(vocabulary_size, size, padding_idx=0)
    with torch.no_grad():
        embedding.weight.mul_(VECTOR_SCALE)
    return embedding


def build_recurrence(config: ModelConfig) -> nn.Module:
    """A layer of torch.nn's or its twin, or a stack of cells where there is no layer."""
    directions = 1 + config.bidirectional
    dropout = config.dropout if config.num_layers > 1 else 0.0
    if config.cell in LAYERS and not config.modifiers:
        layers = {"seqcells": seqcells, "torch": nn}[config.backend]
        return getattr(layers, config.cell.upper())(
            config.embedding_size,
            config.hidden_size,
            config.num_layers,
            dropout=dropout,
            bidirectional=config.bidirectional,
        )
    entries = []
    for number in range(config.num_layers):
        size = config.hidden_size * directions if number else config.embedding_size
        cells = [CELLS[config.cell](size, config.hidden_size) for _ in range(directions)]
        cells = [modified(cell, config.modifiers) for cell in cells]
        entries.append(tuple(cells) if config.bidirectional else cells[0])
    return seqcells.Stack(entries, dropout=dropout)


class WordDropout(nn.Module):
    """Drop whole words: no text may lean on a few of them, and none is learned by heart.

    Dropping single elements of the vectors leaves every word recognisable.
    """

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def forward(self, vectors: Tensor) -> Tensor:
        kept = F.dropout(vectors.new_ones(*vectors.shape[:-1], 1), self.share, self.training)
        return vectors * kept

    def extra_repr(self) -> str:
        return f"share={self.share}"


class TextClassifier(nn.Module):
    """Word vectors, read one after the other by a recurrent network.

    Dropout on the word vectors is drawn before the recurrence and dropout before the head after
    it, so both backends see the same masks. Between several layers torch draws a mask for packed
    words, ours for padded ones.
    """

    def __init__(self, config: ModelConfig, vocabulary_size: int):
        super().__init__()
        self.readout = config.readout
        self.embedding = word_vectors(vocabulary_size, config.embedding_size)
        self.embedding_dropout = WordDropout(config.embedding_dropout)
        self.recurrent = build_recurrence(config)
        if config.recurrent_init == "orthogonal":
            seqcells.init.orthogonal_(self.recurrent)
        if config.forget_bias is not None:
            seqcells.init.forget_bias_(self.recurrent, config.forget_bias)
        self.dropout = nn.Dropout(config.dropout)
        features = config.hidden_size * (1 + config.bidirectional)
        self.head = nn.Linear(features * (1 + (config.readout == "max_mean")), 1)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        words = self.embedding_dropout(self.embedding(tokens))
        outputs, final = self.recur(words, lengths)
        return self.head(self.dropout(self.read(outputs, final, lengths))).squeeze(-1)

    def recur(self, words: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs `(T, B, D*H)` and the last layer's final hidden state `(B, D*H)`."""
        if isinstance(self.recurrent, (nn.RNN, nn.GRU, nn.LSTM)):
            packed = pack_padded_sequence(words, lengths, enforce_sorted=False)
            outputs, state = self.recurrent(packed)
            outputs, _ = pad_packed_sequence(outputs, total_length=len(words))
        else:
            outputs, state = self.recurrent(words, lengths=lengths)
        if isinstance(self.recurrent, seqcells.Stack):
            layer, last = self.recurrent.layers[-1], state[-1]
            pairs = zip(layer, last) if isinstance(layer, nn.ModuleList) else [(layer, last)]
            return outputs, torch.cat([run.cell.output(part) for run, part in pairs], -1)
        hidden = state[0] if isinstance(state, tuple) else state
        directions = 2 if self.recurrent.bidirectional else 1
        return outputs, torch.cat(list(hidden[-directions:]), -1)

    def read(self, outputs: Tensor, final: Tensor, lengths: Tensor) -> Tensor:
        """One vector of features a text."""
        if self.readout == "last":
            return final
        pooled = []
        if "max" in self.readout:
            pooled.append(maximum_over_time(outputs, lengths))
        if "mean" in self.readout:
            pooled.append(mean_over_time(outputs, lengths))
        return torch.cat(pooled, -1)


class AveragedWords(nn.Module):
    """A baseline that ignores order: each word on its own gives a probability; their mean counts.

    The log-odds of that mean are the logit, so that the same loss serves every model.
    """

    def __init__(self, config: ModelConfig, vocabulary_size: int):
        super().__init__()
        self.embedding = word_vectors(vocabulary_size, config.embedding_size)
        self.embedding_dropout = WordDropout(config.embedding_dropout)
        self.head = nn.Linear(config.embedding_size, 1)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        word_logits = self.head(self.embedding_dropout(self.embedding(tokens))).squeeze(-1)
        padding = ~valid_steps(lengths, len(tokens))
        positive = F.logsigmoid(word_logits).masked_fill(padding, -torch.inf)
        negative = F.logsigmoid(-word_logits).masked_fill(padding, -torch.inf)
        return positive.logsumexp(0) - negative.logsumexp(0)


class WordWindow(nn.Module):
    """A baseline with a fixed view: the vectors of the first words, side by side, and one layer."""

    def __init__(self, config: ModelConfig, vocabulary_size: int):
        super().__init__()
        self.window = config.window
        self.embedding = word_vectors(vocabulary_size, config.embedding_size)
        self.embedding_dropout = WordDropout(config.embedding_dropout)
        self.hidden = nn.Linear(config.window * config.embedding_size, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden_size, 1)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        tokens = tokens.where(valid_steps(lengths, len(tokens)), 0)[: self.window]
        tokens = F.pad(tokens, (0, 0, 0, self.window - len(tokens)))
        words = self.embedding_dropout(self.embedding(tokens))
        hidden = torch.tanh(self.hidden(words.transpose(0, 1).flatten(1)))
        return self.head(self.dropout(hidden)).squeeze(-1)


KINDS = {"recurrent": TextClassifier, "words": AveragedWords, "window": WordWindow}


def build_model(config: ModelConfig, vocabulary_size: int) -> nn.Module:
    """The model that `config` describes; torch's random state decides its weights."""
    return KINDS[config.kind](config, vocabulary_size)
