"""Runs that a run reads: its teachers and its region model, which the same command can train."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from seqcells.lab.training.config import Config
from seqcells.lab.training.parsing import load_config
from seqcells.lab.training.runs import Run

SUFFIXES = (".yaml", ".yml")
TEACHERS, REGIONS = Path("runs/teachers"), Path("runs/regions")


def open_teachers(config: Config) -> list[Run]:
    """Open the trained runs that `training.teachers` names.

    Raises:
        ValueError: a teacher is not a run, is of another task, or has no model yet.
    """
    training, folders = config.training, []
    for teacher in map(Path, training.teachers):
        if teacher.suffix in SUFFIXES:
            seeds = range(training.teacher_seeds)
            folders += [TEACHERS / f"{teacher.stem}-seed{seed}" for seed in seeds]
        else:
            folders.append(teacher)
    return [_open(folder, "training.teachers", "sentiment") for folder in folders]


def open_regions(config: Config) -> Run | None:
    """Open the trained run that `training.regions` names, or return None.

    Raises:
        ValueError: it is not a run, is of another task or size, or has no model yet.
    """
    if config.training.regions is None:
        return None
    path = Path(config.training.regions)
    folder = REGIONS / path.stem if path.suffix in SUFFIXES else path
    run = _open(folder, "training.regions", "regions")
    model, expected = run.config.model, config.model
    found = model.cell, model.embedding_size, model.hidden_size, model.bidirectional
    if found != (expected.cell, expected.embedding_size, expected.region_size, True):
        raise ValueError(
            f"training.regions: expected a bidirectional {expected.cell} with word vectors of "
            f"{expected.embedding_size} and {expected.region_size} units, as in model.cell, "
            f"model.embedding_size and model.region_size, got {folder} with cell {model.cell}, "
            f"sizes {model.embedding_size} and {model.hidden_size}, bidirectional "
            f"{str(model.bidirectional).lower()}"
        )
    return run


def runs_to_train(config: Config) -> Iterator[tuple[str, Path, Config]]:
    """Yield a title, the folder and the configuration of each run given by a YAML file.

    They read the data at the run's `data.path` and run on its device.

    Raises:
        ValueError: a configuration is invalid or of another task, or two have the same name.
    """
    regions = config.training.regions
    if regions is not None and Path(regions).suffix in SUFFIXES:
        path = Path(regions)
        folder = REGIONS / path.stem
        yield "regions", folder, _configured(config, path, folder, "training.regions", "regions")
    files = [path for path in map(Path, config.training.teachers) if path.suffix in SUFFIXES]
    if len({path.stem for path in files}) < len(files):
        raise ValueError(
            "training.teachers: expected configurations with different file names, got "
            f"{', '.join(map(str, files))}; use training.teacher_seeds for several seeds"
        )
    seeds = range(config.training.teacher_seeds)
    for number, (path, seed) in enumerate([(path, seed) for path in files for seed in seeds], 1):
        folder = TEACHERS / f"{path.stem}-seed{seed}"
        teacher = _configured(config, path, folder, "training.teachers", "sentiment")
        teacher = replace(teacher, training=replace(teacher.training, seed=seed))
        yield f"teacher {number}/{len(files) * len(seeds)}", folder, teacher


def _configured(config: Config, path: Path, folder: Path, key: str, task: str) -> Config:
    """Return the configuration in a YAML file with the data and the device of `config`."""
    source = load_config(path)
    if source.task != task:
        expected = f"configurations of the task {task}"
        raise ValueError(f"{key}: expected {expected}, got {path} of the task {source.task}")
    data = replace(source.data, path=config.data.path)
    training = replace(source.training, device=config.training.device)
    return replace(source, data=data, training=training, run=str(folder))


def _open(folder: Path, key: str, task: str) -> Run:
    run = Run.open(folder)
    if run.config.task != task:
        raise ValueError(
            f"{key}: expected runs of the task {task}, got {folder}, a run of the task "
            f"{run.config.task}"
        )
    if not run.best.is_file():
        raise ValueError(
            f"{key}: expected trained runs, got {folder}, which has no {run.best.name}; "
            f"continue it with: {run.resume_command()}"
        )
    return run
