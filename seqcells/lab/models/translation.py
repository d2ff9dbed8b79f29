"""Encoder-decoder for outputs of another length than the inputs (Sutskever et al. 2014)."""

import torch
from torch import Tensor, nn

from seqcells.lab.model_config import ModelConfig
from seqcells.lab.models.inputs import END, word_inputs
from seqcells.lab.models.recurrence import build_recurrence
from seqcells.sequences import is_host_readable


class EncoderDecoder(nn.Module):
    """The encoder's final state is the decoder's initial state. Both share token vectors."""

    def __init__(self, config: ModelConfig, vocabulary_size: int):
        super().__init__()
        self.inputs = word_inputs(config, vocabulary_size)
        self.encoder = build_recurrence(config)
        self.decoder = build_recurrence(config)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden_size, vocabulary_size)

    def forward(self, tokens: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        """Return logits `(S, B, V)` of each of `targets (S, B)` given the previous targets.

        This is teacher forcing (Williams & Zipser 1989).
        """
        _, state = self.encoder(self.inputs(tokens), lengths=lengths)
        previous = torch.cat([torch.full_like(targets[:1], END), targets[:-1]])
        outputs, _ = self.decoder(self.inputs(previous), state)
        return self.head(self.dropout(outputs))

    @torch.no_grad()
    def write(self, tokens: Tensor, lengths: Tensor, max_steps: int) -> Tensor:
        """Decode greedily and return tokens `(S, B)`, with S at most `max_steps`.

        Tokens after an `END` are `END`. Decoding stops early when all rows have ended, on the CPU
        only: the check would synchronise with a GPU.
        """
        _, state = self.encoder(self.inputs(tokens), lengths=lengths)
        token = tokens.new_full((1, tokens.shape[1]), END)
        ended = torch.zeros_like(token, dtype=torch.bool)
        written = []
        while len(written) < max_steps and not (is_host_readable(ended) and ended.all()):
            outputs, state = self.decoder(self.inputs(token), state)
            token = self.head(outputs).argmax(-1).masked_fill(ended, END)
            ended = token == END
            written.append(token)
        return torch.cat(written) if written else token[:0]
