"""Training: configuration, data, loop, checkpoints, results."""

from seqcells.model_config import ModelConfig
from seqcells.training.commands import command
from seqcells.training.config import Config, DataConfig, TrainingConfig
from seqcells.training.devices import device_of
from seqcells.training.evaluation import evaluate
from seqcells.training.interruption import InterruptedRunError, deferred_signals
from seqcells.training.loop import NonFiniteLossError, Trainer
from seqcells.training.parsing import load_config, parse
from seqcells.training.results import conclude, finish, load_best
from seqcells.training.runs import Run
from seqcells.training.session import train
from seqcells.training.tasks import TrainingData, task_of
from seqcells.training.tasks.reviews import encode

__all__ = [
    "Config",
    "DataConfig",
    "InterruptedRunError",
    "ModelConfig",
    "NonFiniteLossError",
    "Run",
    "Trainer",
    "TrainingConfig",
    "TrainingData",
    "command",
    "conclude",
    "deferred_signals",
    "device_of",
    "encode",
    "evaluate",
    "finish",
    "load_best",
    "load_config",
    "parse",
    "task_of",
    "train",
]
