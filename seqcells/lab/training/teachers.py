"""Teachers: trained runs whose predictions label the unlabelled reviews."""

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from seqcells.lab.text.reviews import Review
from seqcells.lab.training import processes
from seqcells.lab.training.checkpoints import load_checkpoint, save_checkpoint
from seqcells.lab.training.config import Config
from seqcells.lab.training.parsing import load_config
from seqcells.lab.training.runs import Run

FOLDER = Path("runs/teachers")
SUFFIXES = (".yaml", ".yml")
PREDICTIONS = "predictions.pt"


def open_teachers(config: Config) -> list[Run]:
    """Open the trained runs that `training.teachers` names.

    Raises:
        ValueError: a teacher is not a run, is of another task, or has no model yet.
    """
    teachers = [Run.open(folder) for folder in _folders(config)]
    for teacher in teachers:
        if teacher.config.task != "sentiment":
            raise ValueError(
                f"training.teachers: expected runs of the task sentiment, got {teacher.folder}, "
                f"a run of the task {teacher.config.task}"
            )
        if not teacher.best.is_file():
            raise ValueError(
                f"training.teachers: expected trained runs, got {teacher.folder}, which has no "
                f"{teacher.best.name}; continue it with: {teacher.resume_command()}"
            )
    return teachers


def _folders(config: Config) -> list[Path]:
    training, folders = config.training, []
    for teacher in map(Path, training.teachers):
        if teacher.suffix in SUFFIXES:
            seeds = range(training.teacher_seeds)
            folders += [FOLDER / f"{teacher.stem}-seed{seed}" for seed in seeds]
        else:
            folders.append(teacher)
    return folders


def teachers_to_train(config: Config) -> Iterator[tuple[Path, Config]]:
    """Yield the folder and the configuration of each teacher that is given by a YAML file.

    Teachers read the data at the student's `data.path` and run on its device.

    Raises:
        ValueError: a configuration is invalid or of another task, or two have the same name.
    """
    files = [path for path in map(Path, config.training.teachers) if path.suffix in SUFFIXES]
    if len({path.stem for path in files}) < len(files):
        raise ValueError(
            "training.teachers: expected configurations with different file names, got "
            f"{', '.join(map(str, files))}; use training.teacher_seeds for several seeds"
        )
    for path in files:
        teacher = load_config(path)
        if teacher.task != "sentiment":
            raise ValueError(
                "training.teachers: expected configurations of the task sentiment, got "
                f"{path} of the task {teacher.task}"
            )
        data = replace(teacher.data, path=config.data.path)
        for seed in range(config.training.teacher_seeds):
            folder = FOLDER / f"{path.stem}-seed{seed}"
            training = replace(teacher.training, seed=seed, device=config.training.device)
            yield folder, replace(teacher, data=data, training=training, run=str(folder))


def cached_predictions(
    teacher: Run, reviews: Sequence[Review], predict: Callable[[], Tensor]
) -> Tensor:
    """Return `predict()`, the teacher's predictions for the reviews, and keep them in its folder.

    They are computed again if the teacher's model or the texts have changed.
    """
    path, source = teacher.folder / PREDICTIONS, _fingerprint(teacher, reviews)
    if path.exists():
        content = load_checkpoint(path, teacher.config)
        if content["source"] == source:
            return content["predictions"]
    predictions = predict()
    if processes.is_main():
        content = {"source": source, "predictions": predictions}
        try:
            save_checkpoint(path, teacher.config, content)
        except OSError as error:
            warnings.warn(
                f"{error.__cause__}; a later run will predict the labels of {teacher.folder} again",
                stacklevel=2,
            )
    return predictions


def _fingerprint(teacher: Run, reviews: Sequence[Review]) -> str:
    """Return a hash of the teacher's model and the texts."""
    with teacher.best.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    for review in reviews:
        digest.update(review.text.encode() + b"\0")
    return digest.hexdigest()
