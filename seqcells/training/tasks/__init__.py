"""The tasks, one file each. `task_of` gives a configuration's."""

from seqcells.training.config import Config
from seqcells.training.tasks.base import Batches, Judgement, Task, TrainingData
from seqcells.training.tasks.language import Language
from seqcells.training.tasks.sentiment import Sentiment

TASKS = {
    "sentiment": Sentiment,
    "language": Language,
}


def task_of(config: Config) -> Task:
    """The task that a configuration names."""
    return TASKS[config.task](config)


__all__ = ["Batches", "Judgement", "Task", "TrainingData", "task_of"]
