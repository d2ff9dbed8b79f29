"""Teachers: trained runs whose predictions label the unlabelled reviews."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from seqcells.lab.training.config import Config
from seqcells.lab.training.parsing import load_config

FOLDER = Path("runs/teachers")
SUFFIXES = (".yaml", ".yml")


def teacher_folders(config: Config) -> list[Path]:
    """Return the folders of the runs that `training.teachers` names, trained or not."""
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
