"""Parse YAML files and `--dotted.key value` overrides into a validated configuration."""

import glob
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path

import jsonargparse
import yaml

from seqcells.lab.files import write_atomically
from seqcells.lab.training.config import Config
from seqcells.lab.training.settings import PARTS, check_file, explain


def build_parser(defaults: str | Path | None = None) -> jsonargparse.ArgumentParser:
    """Return the parser of `train.py`; the command line overrides the YAML file `defaults`."""
    parser = jsonargparse.ArgumentParser(
        prog="train.py",
        description="Train a recurrent network, or resume an interrupted run.",
        exit_on_error=False,
        allow_abbrev=False,
        default_config_files=None if defaults is None else [glob.escape(str(defaults))],
    )
    parser.add_argument("config", nargs="?", type=str, metavar="CONFIG", help="a YAML file")
    parser.add_argument("--resume", type=str, metavar="RUN", help="folder of a run to resume")
    parser.add_class_arguments(Config)
    return parser


def parse(argv: Sequence[str]) -> tuple[Config, str | None, str | None]:
    """Parse the command line into configuration, path of the YAML file and run to resume."""
    options = _parse(argv)
    path = options.config
    if path is None and options.resume is not None:
        path = Path(options.resume) / "config.yaml"
    if path is not None:
        if not Path(path).is_file():
            problem = "is a folder" if Path(path).is_dir() else "does not exist"
            raise ValueError(f"expected a YAML file, got {path}, which {problem}")
        check_file(Path(path))
        options = _parse(argv, path)
    if options.resume is not None and options.run is not None:
        raise ValueError("--run: expected no --run together with --resume, which reuses its folder")
    return _build(options), options.config, options.resume


def load_config(path: str | Path) -> Config:
    """Read a YAML file as `train.py` does."""
    return parse([str(path)])[0]


def save_config(config: Config, path: Path) -> None:
    """Write all settings, so that the run does not depend on future defaults."""
    content = {"task": config.task} | {part: vars(getattr(config, part)) for part in PARTS}
    text = yaml.safe_dump(content, sort_keys=False)
    write_atomically(path, lambda file: file.write(text.encode()))


def _parse(argv: Sequence[str], path: str | Path | None = None) -> jsonargparse.Namespace:
    try:
        return build_parser(path).parse_args(list(argv))
    except ArgumentError as error:
        # Options have been parsed once without the file when they are parsed with it.
        place = "" if path is None else f"{path}: "
        raise ValueError(place + explain(str(error))) from None


def _build(options: jsonargparse.Namespace) -> Config:
    for part in PARTS:
        if not isinstance(options[part], jsonargparse.Namespace):
            raise ValueError(f"{part}: expected a mapping of settings, got {options[part]!r}")
    parts = {name: kind(**vars(options[name])) for name, kind in PARTS.items()}
    return Config(task=options.task, **parts, run=options.run)
