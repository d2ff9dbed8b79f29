"""What an exported file says of its model, so that it can be built again."""

import json
from dataclasses import asdict, replace

from seqcells import __version__
from seqcells.lab.model_config import ModelConfig
from seqcells.lab.training import Config, DataConfig


def describe(config: Config) -> dict[str, str]:
    """The version, and as JSON the task, the model and how its texts become tokens.

    Where the texts lay, and what training started from, stays at home.
    """
    data = replace(config.data, path=None, vectors=None, unlabelled=False)
    settings = {"task": config.task, "data": asdict(data), "model": asdict(config.model)}
    return {"seqcells": __version__, "config": json.dumps(settings)}


def read(description: dict[str, str]) -> Config:
    """The configuration that `describe` was given, without its training.

    Raises:
        ValueError: a description of something else, or settings that cannot be.
    """
    try:
        settings = json.loads(description["config"])
        parts = DataConfig(**settings["data"]), ModelConfig(**settings["model"])
        return Config(settings["task"], *parts)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"expected the description of a model, got {error!r}") from None
