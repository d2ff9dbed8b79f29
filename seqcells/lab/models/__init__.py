"""Models: inputs, recurrence, readout and head; and baselines without recurrence."""

from torch import nn

from seqcells.lab.model_config import ModelConfig
from seqcells.lab.models.classifiers import AveragedWords, PooledInputs, TextClassifier, WordWindow

KINDS = {
    "recurrent": TextClassifier,
    "pooled": PooledInputs,
    "words": AveragedWords,
    "window": WordWindow,
}


def build_model(config: ModelConfig, vocabulary_size: int) -> nn.Module:
    """Build the model that `config` describes, with weights from torch's default generator."""
    return KINDS[config.kind](config, vocabulary_size)
