"""Sequence models with one output per sequence or one per step."""

from torch import Tensor, nn

from seqcells.lab.model_config import ModelConfig
from seqcells.lab.models.inputs import word_inputs
from seqcells.lab.models.readout import Readout
from seqcells.lab.models.recurrence import build_recurrence, recur


class SequenceReader(nn.Module):
    """Many to one: maps real inputs `(T, B, I)` and lengths to outputs `(B, outputs)`."""

    def __init__(self, config: ModelConfig, input_size: int, outputs: int):
        super().__init__()
        self.recurrent = build_recurrence(config, input_size)
        self.readout = Readout(config.readout, config.hidden_size * (1 + config.bidirectional))
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(self.readout.features, outputs)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        outputs, final = recur(self.recurrent, inputs, lengths)
        return self.head(self.dropout(self.readout(outputs, final, lengths)))


class SequenceTagger(nn.Module):
    """Many to many, aligned: maps tokens `(T, B)` and lengths to logits `(T, B, C)`."""

    def __init__(self, config: ModelConfig, vocabulary_size: int, tags: int):
        super().__init__()
        self.inputs = word_inputs(config, vocabulary_size)
        self.recurrent = build_recurrence(config)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden_size * (1 + config.bidirectional), tags)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        outputs, _ = recur(self.recurrent, self.inputs(tokens), lengths)
        return self.head(self.dropout(outputs))
