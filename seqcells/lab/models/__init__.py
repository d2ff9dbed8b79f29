"""Models: inputs, recurrence, readout and head; and baselines without recurrence."""

from torch import nn

from seqcells.lab.model_config import ModelConfig
from seqcells.lab.models.classifiers import AveragedWords, PooledInputs, TextClassifier, WordWindow
from seqcells.lab.models.ngram_regression import CombinedClassifier

KINDS = {
    "recurrent": TextClassifier,
    "pooled": PooledInputs,
    "words": AveragedWords,
    "window": WordWindow,
}


def build_model(config: ModelConfig, vocabulary_size: int) -> nn.Module:
    """Build the model that `config` describes, with weights from torch's default generator."""
    if config.ngram_regression:
        return CombinedClassifier(config, vocabulary_size)
    return KINDS[config.kind](config, vocabulary_size)
