"""Region embeddings: states of a recurrent network that predicts the words of a nearby region."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqcells.lab.model_config import ModelConfig
from seqcells.lab.models.inputs import END, UNKNOWN, VECTOR_SCALE
from seqcells.lab.models.language import LanguageModel
from seqcells.lab.models.recurrence import build_recurrence, recur
from seqcells.lab.text.batches import Batch
from seqcells.sequences import valid_steps

SIZE = 20  # words of a region
STRIDE = 4  # the regions at every fourth word are predicted
FREQUENT = 1e-4  # words above this share of the text count less in a region
SMALLEST = 1e-6  # probability of a word to be among those of a batch


class RegionModel(LanguageModel):
    """Predicts the words of the region after each word; backwards, of the region before it.

    The order of the words in a region does not matter. As in Johnson & Zhang (2016), the states
    serve a classifier as further inputs (`RegionStates`).
    """

    def __init__(self, config: ModelConfig, vocabulary_size: int):
        super().__init__(config, vocabulary_size)
        self.next = RegionWords(config.hidden_size, vocabulary_size)


class RegionWords(nn.Module):
    """Distribution of the words of a region, given a state.

    The loss is the cross-entropy of the words with a softmax over the words of all regions of a
    batch. A word's logit is reduced by the log of its probability to be among them (Bengio &
    Senecal 2008). Frequent words tell little about a region: above a share of `FREQUENT`, a word
    weighs the square root of `FREQUENT` over its share (Mikolov et al. 2013).
    """

    shares: Tensor  # of each word in the training texts
    weights: Tensor

    def __init__(self, size: int, vocabulary_size: int):
        super().__init__()
        self.vectors = nn.Embedding(vocabulary_size, size)
        self.biases = nn.Embedding(vocabulary_size, 1)
        self.register_buffer("shares", torch.zeros(vocabulary_size))
        self.register_buffer("weights", torch.zeros(vocabulary_size))
        with torch.no_grad():
            self.vectors.weight.mul_(VECTOR_SCALE)
        self.start(torch.ones(vocabulary_size))

    @torch.no_grad()
    def start(self, counts: Tensor) -> None:
        """Set the shares and weights of the words from their counts `(V,)`, and fitting biases."""
        counts = counts.float()
        counts[[END, UNKNOWN]] = 0
        self.shares.copy_(counts / counts.sum())
        self.weights.copy_((FREQUENT / self.shares).sqrt().clamp(max=1))
        self.weights[[END, UNKNOWN]] = 0
        expected = (self.shares * self.weights).clamp(min=torch.finfo(torch.float32).eps)
        self.biases.weight.copy_(expected.log().unsqueeze(1))

    def loss(self, hidden: Tensor, words: Tensor) -> Tensor:
        """Return the summed loss of states `(N, H)` and the words of their regions `(N, size)`."""
        weights = self.weights[words]
        weights = weights / weights.sum(-1, keepdim=True)
        among, positions = words.unique(return_inverse=True)
        present = 1 - (1 - self.shares[among]).pow(STRIDE * len(words))
        biases = self.biases(among).squeeze(1) - present.clamp(min=SMALLEST).log()
        biases = biases.masked_fill(self.weights[among] == 0, torch.finfo(biases.dtype).min)
        logits = F.linear(hidden, self.vectors(among), biases)
        return (logits.logsumexp(1) - (logits.gather(1, positions) * weights).sum(1)).sum()

    def are_known(self, words: Tensor) -> Tensor:
        """Return whether regions `(..., size)` have a word to predict `(...)`."""
        return (self.weights[words] > 0).any(-1)


def following_words(tokens: Tensor, size: int = SIZE) -> Tensor:
    """Return the next `size` words of each word `(T, B, size)`, `END` after the end of a text.

    Words after the last of `tokens (T, B)` count as `END`.
    """
    windows = F.pad(tokens, (0, 0, 0, size), value=END)[1:].unfold(0, size, 1)
    ended = (windows == END).cumsum(-1) > 0
    return windows.masked_fill(ended, END)


def preceding_words(tokens: Tensor, size: int = SIZE) -> Tensor:
    """Return the previous `size` words of each word `(T, B, size)`, the nearest first."""
    return following_words(tokens.flip(0), size).flip(0)


class RegionStates(nn.Module):
    """Fixed states of a trained `RegionModel` in both directions, scaled as inputs.

    Over the texts of `start`, each has mean zero and the standard deviation of new word vectors.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, config: ModelConfig, vocabulary_size: int):
        super().__init__()
        config = replace(
            config, hidden_size=config.region_size, num_layers=1, bidirectional=True, modifiers={}
        )
        self.size = 2 * config.hidden_size
        self.words = nn.Embedding(vocabulary_size, config.embedding_size, padding_idx=END)
        self.recurrent = build_recurrence(config)
        self.register_buffer("mean", torch.zeros(self.size))
        self.register_buffer("scale", torch.ones(self.size))
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the states `(T, B, size)` of texts `(T, B)`, zeros after their ends."""
        states, _ = recur(self.recurrent, self.words(tokens), lengths)
        inside = valid_steps(lengths, len(tokens)).unsqueeze(-1)
        return ((states - self.mean) * self.scale).where(inside, 0)

    def start(self, weights: dict[str, Any], texts: Iterable[Batch]) -> None:
        """Load the weights of a `RegionModel`; find the mean and the scale over `texts`."""
        self.words.load_state_dict({"weight": weights["inputs.words.weight"]})
        prefix = "recurrent."
        recurrence = {name: part for name, part in weights.items() if name.startswith(prefix)}
        self.recurrent.load_state_dict(
            {name.removeprefix(prefix): part for name, part in recurrence.items()}
        )
        self.mean.zero_()
        self.scale.fill_(1)
        rows = []
        for batch in texts:
            states = self(batch.inputs, batch.lengths)
            rows.append(states[valid_steps(batch.lengths, len(states))])
        std, mean = torch.std_mean(torch.cat(rows), 0)
        self.mean.copy_(mean)
        self.scale.copy_(VECTOR_SCALE / std.clamp(min=torch.finfo(std.dtype).eps))
