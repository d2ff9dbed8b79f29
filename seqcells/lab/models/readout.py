"""Readouts: pool the outputs of all steps into one vector per text."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seqcells.sequences import valid_steps


def maximum_over_time(outputs: Tensor, lengths: Tensor) -> Tensor:
    """Return the maximum over time `(B, H)`, without padding."""
    padding = ~valid_steps(lengths, len(outputs)).unsqueeze(-1)
    return outputs.masked_fill(padding, -torch.inf).amax(0)


def mean_over_time(outputs: Tensor, lengths: Tensor) -> Tensor:
    """Return the mean over time `(B, H)`, without padding."""
    words = valid_steps(lengths, len(outputs)).unsqueeze(-1)
    return outputs.where(words, 0).sum(0) / lengths.unsqueeze(-1)


class Attention(nn.Module):
    """Attention-weighted mean of the outputs `(B, H)` (Yang et al. 2016)."""

    def __init__(self, size: int):
        super().__init__()
        self.hidden = nn.Linear(size, size)
        self.weight = nn.Linear(size, 1, bias=False)

    def forward(self, outputs: Tensor, lengths: Tensor) -> Tensor:
        scores = self.score(outputs)
        padding = ~valid_steps(lengths, len(outputs)).unsqueeze(-1)
        weights = scores.masked_fill(padding, -torch.inf).softmax(0)
        return (weights * outputs.where(~padding, 0)).sum(0)

    def score(self, outputs: Tensor) -> Tensor:
        """Return attention scores `(..., 1)` of outputs `(..., H)`, before the softmax."""
        return self.weight(torch.tanh(self.hidden(outputs)))


class Readout(nn.Module):
    """Concatenates the readouts in `kinds`: `last`, `max`, `mean`, `attention`."""

    def __init__(self, kinds: Sequence[str], size: int):
        super().__init__()
        self.kinds = tuple(kinds)
        self.features = size * len(self.kinds)
        self.attention = Attention(size) if "attention" in self.kinds else None

    def forward(self, outputs: Tensor, final: Tensor, lengths: Tensor) -> Tensor:
        """Pool outputs `(T, B, H)` and the final hidden state `(B, H)` into `(B, features)`."""
        functions = {"max": maximum_over_time, "mean": mean_over_time, "attention": self.attention}
        parts = [
            final if kind == "last" else functions[kind](outputs, lengths) for kind in self.kinds
        ]
        return torch.cat(parts, -1)

    def extra_repr(self) -> str:
        return ", ".join(self.kinds)


class RunningReadout:
    """Computes a `Readout` incrementally, in constant memory."""

    def __init__(self, readout: Readout):
        self.kinds, self.attention = readout.kinds, readout.attention
        self.count = 0
        self.largest = self.total = self.weighted = self.weights = torch.zeros(())
        self.max_score = torch.tensor(-torch.inf)  # subtracted from scores to avoid overflow

    def add(self, output: Tensor) -> Tensor:
        """Add an output `(B, H)` and return the readout `(B, features)`."""
        self.largest = output if self.count == 0 else self.largest.maximum(output)
        self.total = self.total + output
        self.count += 1
        readouts = {"last": output, "max": self.largest, "mean": self.total / self.count}
        if self.attention is not None:
            readouts["attention"] = self._attend(output)
        return torch.cat([readouts[kind] for kind in self.kinds], -1)

    def _attend(self, output: Tensor) -> Tensor:
        score = self.attention.score(output)
        max_score = self.max_score.maximum(score)
        rescale, weight = (self.max_score - max_score).exp(), (score - max_score).exp()
        self.weighted = self.weighted * rescale + weight * output
        self.weights = self.weights * rescale + weight
        self.max_score = max_score
        return self.weighted / self.weights
