"""From the states at all words to one vector a text."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seqcells.sequences import valid_steps


def maximum_over_time(outputs: Tensor, lengths: Tensor) -> Tensor:
    """The largest output of each unit `(B, H)` within each text."""
    padding = ~valid_steps(lengths, len(outputs)).unsqueeze(-1)
    return outputs.masked_fill(padding, -torch.inf).amax(0)


def mean_over_time(outputs: Tensor, lengths: Tensor) -> Tensor:
    """The mean output of each unit `(B, H)` within each text."""
    words = valid_steps(lengths, len(outputs)).unsqueeze(-1)
    return outputs.where(words, 0).sum(0) / lengths.unsqueeze(-1)


class Attention(nn.Module):
    """The mean of the outputs `(B, H)`, each weighed by how much it says (Yang et al. 2016)."""

    def __init__(self, size: int):
        super().__init__()
        self.hidden = nn.Linear(size, size)
        self.weight = nn.Linear(size, 1, bias=False)

    def forward(self, outputs: Tensor, lengths: Tensor) -> Tensor:
        scores = self.score(outputs)
        padding = ~valid_steps(lengths, len(outputs)).unsqueeze(-1)
        shares = scores.masked_fill(padding, -torch.inf).softmax(0)
        return (shares * outputs.where(~padding, 0)).sum(0)

    def score(self, outputs: Tensor) -> Tensor:
        """How much outputs `(..., H)` say `(..., 1)`, as a logarithm."""
        return self.weight(torch.tanh(self.hidden(outputs)))


class Readout(nn.Module):
    """Side by side, what `kinds` names: `last`, `max`, `mean`, `attention`."""

    def __init__(self, kinds: Sequence[str], size: int):
        super().__init__()
        self.kinds = tuple(kinds)
        self.features = size * len(self.kinds)
        self.attention = Attention(size) if "attention" in self.kinds else None

    def forward(self, outputs: Tensor, final: Tensor, lengths: Tensor) -> Tensor:
        """`(B, features)`, of outputs `(T, B, H)` and the final hidden state `(B, H)`."""
        read = {"max": maximum_over_time, "mean": mean_over_time, "attention": self.attention}
        return torch.cat(
            [final if kind == "last" else read[kind](outputs, lengths) for kind in self.kinds], -1
        )

    def extra_repr(self) -> str:
        return ", ".join(self.kinds)


class RunningReadout:
    """What a `Readout` makes of the outputs so far, of which it keeps none."""

    def __init__(self, readout: Readout):
        self.kinds, self.attention = readout.kinds, readout.attention
        self.count = 0
        self.largest = self.total = self.weighted = self.weights = torch.zeros(())
        self.highest = torch.tensor(-torch.inf)  # score, which no exponential may outgrow

    def add(self, output: Tensor) -> Tensor:
        """`(B, features)` after one more output `(B, H)`."""
        self.largest = output if self.count == 0 else self.largest.maximum(output)
        self.total = self.total + output
        self.count += 1
        read = {"last": output, "max": self.largest, "mean": self.total / self.count}
        if self.attention is not None:
            read["attention"] = self._attend(output)
        return torch.cat([read[kind] for kind in self.kinds], -1)

    def _attend(self, output: Tensor) -> Tensor:
        score = self.attention.score(output)
        highest = self.highest.maximum(score)
        before, now = (self.highest - highest).exp(), (score - highest).exp()
        self.weighted = self.weighted * before + now * output
        self.weights = self.weights * before + now
        self.highest = highest
        return self.weighted / self.weights
