"""safetensors: the state dict, with metadata to rebuild the model."""

from pathlib import Path
from typing import NamedTuple

from torch import nn

from seqcells.lab.export.metadata import from_metadata, to_metadata
from seqcells.lab.export.parts import refuse_quantized
from seqcells.lab.extras import remedy
from seqcells.lab.files import write_atomically
from seqcells.lab.text.vocabulary import Vocabulary
from seqcells.lab.training import Config, task_of

try:
    import safetensors.torch
except ModuleNotFoundError as error:
    raise ImportError(remedy(error) or str(error)) from error


class Loaded(NamedTuple):
    """A model in evaluation mode, with its vocabulary and configuration."""

    model: nn.Module
    vocabulary: Vocabulary | None
    config: Config


def save(model: nn.Module, config: Config, path: Path) -> None:
    """Write the state dict, with `config` in the metadata.

    Weights of RNN, GRU and LSTM layers have torch.nn's names and shapes below `recurrent.`, so they
    load without seqcells::

        weights = safetensors.torch.load_file("model.safetensors")
        prefix = "recurrent."
        lstm = torch.nn.LSTM(100, 64, bidirectional=True)
        lstm.load_state_dict(
            {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
        )

    Raises:
        ValueError: `model` is quantized.
    """
    refuse_quantized(model)
    weights = {name: weight.contiguous() for name, weight in model.state_dict().items()}
    content = safetensors.torch.save(weights, {"format": "pt", **to_metadata(config)})
    write_atomically(path, lambda file: file.write(content))


def load(path: str | Path) -> Loaded:
    """Load a model; its vocabulary is read from the same folder.

    Raises:
        OSError: the file does not exist.
        ValueError: the file was not written by `save`, or its vocabulary is missing.
    """
    path = Path(path)
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ValueError(f"expected a safetensors file, got {path} ({error})") from None
    config = from_metadata(metadata)
    task, vocabulary = task_of(config), None
    if task.reads_text:
        words = path.with_name("vocabulary.json")
        if not words.is_file():
            raise ValueError(f"expected {words}, which does not exist; export the run again")
        vocabulary = Vocabulary.load(words)
    model = task.build(vocabulary)
    model.load_state_dict(weights)
    return Loaded(model.eval(), vocabulary, config)
