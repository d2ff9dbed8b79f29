"""From a YAML file and `--dotted.override value` to a checked configuration, and back."""

import glob
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path

import jsonargparse
import yaml

from seqcells.lab.files import write_atomically
from seqcells.lab.model_config import ModelConfig
from seqcells.lab.training.config import Config, DataConfig, TrainingConfig

PARTS = {"data": DataConfig, "model": ModelConfig, "training": TrainingConfig}


def build_parser(defaults: str | Path | None = None) -> jsonargparse.ArgumentParser:
    """The parser of `train.py`; `defaults` is a YAML file that stands below the overrides."""
    parser = jsonargparse.ArgumentParser(
        prog="train.py",
        description="Train a classifier of texts, or go on with a run that was interrupted.",
        exit_on_error=False,
        default_config_files=None if defaults is None else [glob.escape(str(defaults))],
    )
    parser.add_argument("config", nargs="?", type=str, metavar="CONFIG", help="a YAML file")
    parser.add_argument("--resume", type=str, metavar="RUN", help="go on with this run's folder")
    parser.add_class_arguments(Config)
    return parser


def parse(argv: Sequence[str]) -> tuple[Config, str | None, str | None]:
    """Read the command line: the configuration, the YAML file's path, the run to go on with."""
    try:
        given = build_parser().parse_args(list(argv))
        path = given.config
        if path is None and given.resume is not None:
            path = Path(given.resume) / "config.yaml"
        if path is not None and not Path(path).is_file():
            raise ValueError(f"expected a configuration (YAML), got {path}, which is no file")
        if path is not None:
            given = build_parser(path).parse_args(list(argv))
    except ArgumentError as error:
        raise ValueError(_one_line(error)) from None
    if given.resume is not None and given.run is not None:
        raise ValueError("--run: expected none beside --resume, which goes on in its own folder")
    return _build(given), given.config, given.resume


def load_config(path: str | Path) -> Config:
    """Read a YAML file as `train.py` does."""
    return parse([str(path)])[0]


def save_config(config: Config, path: Path) -> None:
    """Write every setting, so that the run does not depend on later defaults."""
    content = {"task": config.task} | {part: vars(getattr(config, part)) for part in PARTS}
    text = yaml.safe_dump(content, sort_keys=False)
    write_atomically(path, lambda file: file.write(text.encode()))


def _build(given: jsonargparse.Namespace) -> Config:
    for part in PARTS:
        if not isinstance(given[part], jsonargparse.Namespace):
            raise ValueError(f"{part}: expected settings with names, got {given[part]!r}")
    parts = {name: kind(**vars(given[name])) for name, kind in PARTS.items()}
    return Config(task=given.task, **parts, run=given.run)


def _one_line(error: ArgumentError) -> str:
    """jsonargparse names the key, on several lines."""
    message = " ".join(str(error).split())
    return message.removeprefix("Parser key ")
