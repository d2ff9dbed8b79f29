"""Language models."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqcells.lab.model_config import ModelConfig
from seqcells.lab.models.inputs import word_inputs
from seqcells.lab.models.recurrence import build_recurrence
from seqcells.sequences import is_host_readable
from seqcells.state import map_state

FULL_SOFTMAX = 5000  # largest vocabulary without an adaptive softmax
CUTOFFS, DIV_VALUE = (2000, 10_000), 4.0
MIN_SIZE = DIV_VALUE ** len(CUTOFFS)  # a smaller hidden size leaves the last cluster no features


class NextToken(nn.Module):
    """Distribution over the next token.

    Large vocabularies use an adaptive softmax (Grave et al. 2017), which spends less computation
    on rare words.
    """

    def __init__(self, size: int, vocabulary_size: int):
        super().__init__()
        cutoffs = [cutoff for cutoff in CUTOFFS if cutoff < vocabulary_size]
        self.head = (
            nn.Linear(size, vocabulary_size)
            if vocabulary_size <= FULL_SOFTMAX or size < MIN_SIZE
            else nn.AdaptiveLogSoftmaxWithLoss(size, vocabulary_size, cutoffs, div_value=DIV_VALUE)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """Return log-probabilities `(N, V)` for hidden states `(N, H)`."""
        if isinstance(self.head, nn.Linear):
            return self.head(hidden).log_softmax(-1)
        return self.head.log_prob(hidden)

    def losses(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """Return the negative log-likelihood `(N,)` of labels `(N,)`."""
        if isinstance(self.head, nn.Linear):
            return F.cross_entropy(self.head(hidden), labels, reduction="none")
        return -self.head(hidden, labels).output

    def loss(self, hidden: Tensor, labels: Tensor, ignored: int) -> Tensor:
        """Return the summed negative log-likelihood of labels `(T, B)` other than `ignored`.

        On the CPU, steps with ignored labels are skipped. On a GPU, selecting steps would
        synchronise, so log-probabilities are computed for all steps.
        """
        if is_host_readable(labels):
            counted = labels != ignored
            return self.losses(hidden[counted], labels[counted]).sum()
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        log_probabilities = self(hidden.flatten(0, 1).to(dtype))
        return F.nll_loss(
            log_probabilities, labels.flatten(), ignore_index=ignored, reduction="sum"
        )


class LanguageModel(nn.Module):
    """Predicts the next token; in a bidirectional model, also the previous one.

    Both directions share word vectors and head. A bidirectional model has a single layer, as
    directions of a second layer would see the tokens they predict (Peters et al. 2018). The state
    of the forward direction carries over between windows; the backward direction starts from zero
    in each window.
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
        """Return each direction's hidden states `(T, B, H)`, and the final state."""
        if state is not None and self.directions == 2:
            state = forward_only(state)
        outputs, state = self.recurrent(self.inputs(tokens), state, resets=resets)
        return list(self.dropout(outputs).chunk(self.directions, -1)), state


def forward_only(state: Any) -> Any:
    """Replace the backward direction's state with zeros."""
    return map_state(lambda part: torch.stack([part[0], torch.zeros_like(part[1])]), state)
