"""Checkpoints: a training state in one file, from which a run resumes exactly."""

import os
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import torch

from seqcells.lab.files import write_atomically
from seqcells.lab.training.config import Config, check_same, flatten

FORMAT = "seqcells checkpoint 1"


def save_checkpoint(path: Path, config: Config, content: dict[str, Any]) -> None:
    """Save the configuration and `content`: tensors, numbers, strings and containers of them.

    Raises:
        OSError: the file cannot be written; an earlier file at `path` is unchanged.
    """
    content = {"format": FORMAT, "config": flatten(config), **content}
    try:
        write_atomically(path, lambda file: torch.save(content, file))
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise OSError(
            f"expected free space to save {path}, got {reason}; earlier checkpoints are unchanged: "
            f"free disk space and continue with --resume {path.parent}"
        ) from error


def load_checkpoint(path: Path, config: Config) -> dict[str, Any]:
    """Load a checkpoint of the same configuration, without executing code from the file."""
    if not path.exists():
        raise ValueError(f"expected a checkpoint, got {path}, which does not exist")
    try:
        with zipfile.ZipFile(path):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"expected a valid checkpoint, got {path}, which is damaged or holds objects other "
            "than tensors, numbers, strings and containers of them"
        ) from None
    except (zipfile.BadZipFile, RuntimeError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"expected a valid checkpoint, got {path} ({reason})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"expected a checkpoint of format {FORMAT!r}, got {path}")
    check_same(config, content["config"], path)
    return content


def random_states(device: torch.device) -> dict[str, Any]:
    """Return the states of all random number generators that training on `device` uses."""
    states = {"torch": torch.get_rng_state(), "python": random.getstate()}
    if device.type != "cpu":
        states[device.type] = torch.get_device_module(device).get_rng_state()
    return states


def restore_random_states(states: dict[str, Any], device: torch.device) -> None:
    """Restore generator states, except those of devices other than `device`."""
    torch.set_rng_state(states["torch"])
    random.setstate(states["python"])
    if device.type in states:
        torch.get_device_module(device).set_rng_state(states[device.type])
