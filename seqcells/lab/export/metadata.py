"""Metadata of an exported file, from which the model can be rebuilt."""

import json
from dataclasses import asdict, replace

from seqcells import __version__
from seqcells.lab.model_config import ModelConfig
from seqcells.lab.training import Config, DataConfig


def to_metadata(config: Config) -> dict[str, str]:
    """Return the version and, as JSON, the settings of task, model and tokenisation.

    Paths and pretrained weights are omitted.
    """
    data = replace(config.data, path=None, vectors=None, unlabelled=False)
    settings = {"task": config.task, "data": asdict(data), "model": asdict(config.model)}
    return {"seqcells": __version__, "config": json.dumps(settings)}


def from_metadata(metadata: dict[str, str]) -> Config:
    """Return the configuration that was passed to `to_metadata`, with default training settings.

    Raises:
        ValueError: the metadata has no configuration or invalid settings.
    """
    try:
        settings = json.loads(metadata["config"])
        parts = DataConfig(**settings["data"]), ModelConfig(**settings["model"])
        return Config(settings["task"], *parts)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"expected metadata of an exported model, got {error!r}") from None
