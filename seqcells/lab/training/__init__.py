"""Training: configuration, data, loop, checkpoints, results."""

from seqcells.lab.model_config import ModelConfig
from seqcells.lab.training.config import Config, DataConfig, TrainingConfig
from seqcells.lab.training.devices import device_of
from seqcells.lab.training.loop import Trainer
from seqcells.lab.training.metrics import evaluate
from seqcells.lab.training.parsing import load_config, parse
from seqcells.lab.training.results import conclude, finish, load_best
from seqcells.lab.training.runs import Run
from seqcells.lab.training.session import train
from seqcells.lab.training.tasks import TrainingData, task_of
from seqcells.lab.training.tasks.reviews import encode
from seqcells.lab.training.termination import (
    InterruptedRunError,
    NonFiniteLossError,
    command,
    deferred_signals,
)

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
