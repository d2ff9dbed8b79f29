"""The metadata of an exported file, from which its model can be rebuilt."""

import json
from dataclasses import asdict, replace

from seqcells import __version__
from seqcells.lab.model_config import ModelConfig
from seqcells.lab.training import Config, DataConfig


def to_metadata(config: Config) -> dict[str, str]:
    """Return the version and, as JSON, the task, the model and the tokenisation of its texts.

    Paths and what training started from are left out.
    """
    data = replace(config.data, path=None, vectors=None, unlabelled=False)
    settings = {"task": config.task, "data": asdict(data), "model": asdict(config.model)}
    return {"seqcells": __version__, "config": json.dumps(settings)}


def from_metadata(metadata: dict[str, str]) -> Config:
    """Return the configuration that `to_metadata` was given, without its training.

    Raises:
        ValueError: other metadata, or invalid settings.
    """
    try:
        settings = json.loads(metadata["config"])
        parts = DataConfig(**settings["data"]), ModelConfig(**settings["model"])
        return Config(settings["task"], *parts)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"expected the description of a model, got {error!r}") from None
