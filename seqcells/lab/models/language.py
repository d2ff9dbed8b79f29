"""Language models: the tokens that follow, out of those that came."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqcells.lab.model_config import ModelConfig
from seqcells.lab.models.classifiers import word_inputs
from seqcells.lab.models.recurrence import build_recurrence
from seqcells.sequences import is_host_readable
from seqcells.state import map_state

FEW = 5000  # tokens: with more of them, rare ones have shorter vectors in clusters of their own
CLUSTERS, NARROWING = (2000, 10_000), 4.0
NARROW = NARROWING ** len(CLUSTERS)  # a hidden size that would leave a cluster nothing


class NextToken(nn.Module):
    """The distribution over the next token.

    A large vocabulary goes by an adaptive softmax (Grave et al. 2017): most of the time is spent
    on the frequent words, which are most of the text.
    """

    def __init__(self, size: int, vocabulary_size: int):
        super().__init__()
        cutoffs = [cutoff for cutoff in CLUSTERS if cutoff < vocabulary_size]
        self.head = (
            nn.Linear(size, vocabulary_size)
            if vocabulary_size <= FEW or size < NARROW
            else nn.AdaptiveLogSoftmaxWithLoss(size, vocabulary_size, cutoffs, div_value=NARROWING)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """Log-probabilities `(N, V)` of hidden states `(N, H)`."""
        if isinstance(self.head, nn.Linear):
            return self.head(hidden).log_softmax(-1)
        return self.head.log_prob(hidden)

    def losses(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """The surprise `(N,)` at labels `(N,)`: minus their log-probabilities."""
        if isinstance(self.head, nn.Linear):
            return F.cross_entropy(self.head(hidden), labels, reduction="none")
        return -self.head(hidden, labels).output

    def loss(self, hidden: Tensor, labels: Tensor, ignored: int) -> Tensor:
        """The sum of the surprises of hidden states `(T, B, H)` at labels `(T, B)` but `ignored`.

        On the CPU only what is needed is computed. To choose it would mean to wait for another
        device, where all log-probabilities are.
        """
        if is_host_readable(labels):
            counted = labels != ignored
            return self.losses(hidden[counted], labels[counted]).sum()
        wide = torch.promote_types(hidden.dtype, torch.float32)
        chances = self(hidden.flatten(0, 1).to(wide))
        return F.nll_loss(chances, labels.flatten(), ignore_index=ignored, reduction="sum")


class LanguageModel(nn.Module):
    """Reads tokens and tells the next one; with two directions, the backward one the one before.

    The directions share words and head, and neither sees what it is to tell, so there may be but
    one layer of them (Peters et al. 2018). The forward one goes on from window to window, the
    backward one begins at each window's end.
    """

    def __init__(self, config: ModelConfig, vocabulary_size: int):
        super().__init__()
        self.inputs = word_inputs(config, vocabulary_size)
        self.recurrent = build_recurrence(config)
        self.dropout = nn.Dropout(config.dropout)
        self.next = NextToken(config.hidden_size, vocabulary_size)
        self.directions = 1 + config.bidirectional

    def forward(
        self, tokens: Tensor, state: Any = None, resets: Tensor | None = None
    ) -> tuple[list[Tensor], Any]:
        """Each direction's hidden states `(T, B, H)`, and the state to go on from."""
        if state is not None and self.directions == 2:
            state = forward_only(state)
        outputs, state = self.recurrent(self.inputs(tokens), state, resets=resets)
        return list(self.dropout(outputs).chunk(self.directions, -1)), state


def forward_only(state: Any) -> Any:
    """A layer's state with zeros in the place of the backward direction's."""
    return map_state(lambda part: torch.stack([part[0], torch.zeros_like(part[1])]), state)
