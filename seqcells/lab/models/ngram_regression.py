"""A recurrent text classifier combined with a logistic regression on n-grams."""

import torch
from torch import Tensor, nn

from seqcells.lab.model_config import ModelConfig
from seqcells.lab.models.classifiers import TextClassifier
from seqcells.lab.models.inputs import hash_ngrams
from seqcells.sequences import valid_steps

BUCKETS = 2**21


class NgramRegression(nn.Module):
    """Logistic regression on the words, pairs, triples, ... that occur in a text.

    Each occurs or does not; repetitions do not count. N-grams with the same hash bucket share a
    weight. The weights are fitted before training (`fit_ngram_regression`) and fixed.
    """

    def __init__(self, longest: int, vocabulary_size: int):
        super().__init__()
        self.longest, self.vocabulary_size = longest, vocabulary_size
        weights = torch.zeros(vocabulary_size + BUCKETS)
        self.weights = nn.Parameter(weights, requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits `(B,)` of texts `(T, B)`."""
        columns, _ = self.columns(tokens, lengths).sort(0)
        repeated = columns[1:] == columns[:-1]
        weights = self.weights[columns]
        return weights[0] + weights[1:].masked_fill(repeated, 0).sum(0) + self.bias

    def columns(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the index of the weight of each n-gram `(longest * T, B)`; 0 for padding."""
        steps = len(tokens)
        columns = [tokens]
        for number in hash_ngrams(tokens, self.longest):
            columns.append(self.vocabulary_size + number % BUCKETS)
        inside = valid_steps(lengths, steps)
        for back, column in enumerate(columns):
            complete = torch.arange(steps, device=tokens.device).unsqueeze(1) >= back
            columns[back] = column.where(inside & complete, 0)
        return torch.cat(columns)

    def extra_repr(self) -> str:
        return f"longest={self.longest}"


class CombinedClassifier(TextClassifier):
    """A recurrent classifier that averages its logit with that of an `NgramRegression`.

    Training uses the logit of the recurrent network alone: the regression fits its own training
    texts almost perfectly, which would leave the network no loss to learn from.
    """

    def __init__(self, config: ModelConfig, vocabulary_size: int):
        super().__init__(config, vocabulary_size)
        self.regression = NgramRegression(config.ngram_regression, vocabulary_size)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        logits = super().forward(tokens, lengths)
        return logits if self.training else (logits + self.regression(tokens, lengths)) / 2
