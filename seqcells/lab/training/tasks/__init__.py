"""Tasks, one per file."""

from seqcells.lab.training.config import Config
from seqcells.lab.training.tasks.adding import Adding
from seqcells.lab.training.tasks.base import Batches, Judgement, Task, TrainingData
from seqcells.lab.training.tasks.capitals import Capitals
from seqcells.lab.training.tasks.copying import Copying
from seqcells.lab.training.tasks.dates import Dates
from seqcells.lab.training.tasks.digits import Digits
from seqcells.lab.training.tasks.language import Language
from seqcells.lab.training.tasks.sentiment import Sentiment

TASKS = {
    "sentiment": Sentiment,
    "capitals": Capitals,
    "language": Language,
    "dates": Dates,
    "adding": Adding,
    "copying": Copying,
    "digits": Digits,
}


def task_of(config: Config) -> Task:
    """Create the task of a configuration."""
    return TASKS[config.task](config)


__all__ = ["Batches", "Judgement", "Task", "TrainingData", "task_of"]
