"""Many to many, of another length: one network reads, another writes (Sutskever et al. 2014)."""

import torch
from torch import Tensor, nn

from seqcells.lab.model_config import ModelConfig
from seqcells.lab.models.classifiers import word_inputs
from seqcells.lab.models.inputs import END
from seqcells.lab.models.recurrence import build_recurrence
from seqcells.sequences import is_host_readable


class EncoderDecoder(nn.Module):
    """The reader's final state is the writer's first one; both share their vectors of tokens."""

    def __init__(self, config: ModelConfig, vocabulary_size: int):
        super().__init__()
        self.inputs = word_inputs(config, vocabulary_size)
        self.encoder = build_recurrence(config)
        self.decoder = build_recurrence(config)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden_size, vocabulary_size)

    def forward(self, tokens: Tensor, lengths: Tensor, written: Tensor) -> Tensor:
        """Logits `(S, B, V)` of each token, given what is `written (S, B)` before it (teacher
        forcing, Williams & Zipser 1989)."""
        _, state = self.encoder(self.inputs(tokens), lengths=lengths)
        before = torch.cat([torch.full_like(written[:1], END), written[:-1]])
        outputs, _ = self.decoder(self.inputs(before), state)
        return self.head(self.dropout(outputs))

    @torch.no_grad()
    def write(self, tokens: Tensor, lengths: Tensor, most: int) -> Tensor:
        """Write the likeliest token after the other, `(S, B)` with S up to `most`.

        What stands after an `END` is `END`. Only the CPU is asked whether all rows have ended.
        """
        _, state = self.encoder(self.inputs(tokens), lengths=lengths)
        token = tokens.new_full((1, tokens.shape[1]), END)
        ended = torch.zeros_like(token, dtype=torch.bool)
        written = []
        while len(written) < most and not (is_host_readable(ended) and ended.all()):
            outputs, state = self.decoder(self.inputs(token), state)
            token = self.head(outputs).argmax(-1).masked_fill(ended, END)
            ended = token == END
            written.append(token)
        return torch.cat(written) if written else token[:0]
