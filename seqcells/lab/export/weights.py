"""safetensors: the weights under their names, and what is needed to build their model."""

from pathlib import Path
from typing import NamedTuple

from torch import nn

from seqcells.lab.export.metadata import from_metadata, to_metadata
from seqcells.lab.files import write_atomically
from seqcells.lab.text.vocabulary import Vocabulary
from seqcells.lab.training import Config, task_of

try:
    import safetensors.torch
except ImportError as error:
    raise ImportError(
        f"expected the package safetensors ({error}): pip install 'seqcells[export]'"
    ) from error


class Loaded(NamedTuple):
    """A model in evaluation, and what turns texts into its inputs."""

    model: nn.Module
    vocabulary: Vocabulary | None
    config: Config


def save(model: nn.Module, config: Config, path: Path) -> None:
    """Write the state dict, with `config` among the file's metadata.

    The layers' weights have torch.nn's names and shapes under `recurrent.`, so that they do
    without us::

        weights = safetensors.torch.load_file("model.safetensors")
        prefix = "recurrent."
        lstm = torch.nn.LSTM(100, 64, bidirectional=True)
        lstm.load_state_dict(
            {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
        )
    """
    weights = {name: weight.contiguous() for name, weight in model.state_dict().items()}
    content = safetensors.torch.save(weights, {"format": "pt", **to_metadata(config)})
    write_atomically(path, lambda file: file.write(content))


def load(path: str | Path) -> Loaded:
    """Build the model of a file, by the vocabulary that lies beside it.

    Raises:
        OSError: no such file.
        ValueError: a file that `save` did not write, or one that lost its vocabulary.
    """
    path = Path(path)
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ValueError(f"expected a file in safetensors, got {path} ({error})") from None
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
