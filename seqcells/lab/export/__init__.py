"""Export of trained models, one module per format. docs/export.md documents the formats."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from seqcells.lab.files import unwritable, write_atomically
from seqcells.lab.text.vocabulary import Vocabulary
from seqcells.lab.training import Config, Run, load_best, task_of


class Format(NamedTuple):
    """A format: its module, the suffix of its files, and whether it supports other tasks."""

    module: str
    suffix: str  # empty: the output is a folder
    every_task: bool = False


FORMATS = {
    "safetensors": Format("weights", ".safetensors", every_task=True),
    "torch-export": Format("program", ".pt2"),
    "onnx": Format("onnx", ".onnx"),
    "c": Format("c", "", every_task=True),
}
STATEFUL = {"onnx": "streaming"}  # modules of the formats that support `stateful`
WEIGHTS = ("file", "embedded")
QUANTIZED = ("int8", "bfloat16")


def export_run(
    folder: str | Path,
    format: str,
    output: str | Path | None = None,
    *,
    stateful: bool = False,
    weights: str | None = None,
    quantize: str | None = None,
) -> Path:
    """Write the best model of a run to a file and its vocabulary to the same folder.

    `format` is one of `FORMATS`. `output` defaults to `model` with the suffix of the format, in the
    run's folder. Models with layers of torch.nn are exported with layers of seqcells, which have
    the same weights. With `stateful`, the model reads a text in chunks: its state is an input and
    an output. Only ONNX supports this.

    The format `c` writes a folder, whose name is the prefix of the files. `weights` selects whether
    its weights are in a `file` or `embedded` in the source; by default, weights of more than
    `seqcells.lab.export.c.EMBEDDED` bytes are in a file. `quantize` is `int8` or `bfloat16`: the
    recurrences have weights of this type (`seqcells.quantize`).

    Returns:
        The path of the model file, or of the folder.

    Raises:
        ValueError: `folder` is not a run, the format is unknown or does not support the run,
            `stateful`, `weights` or `quantize`, `output` has another suffix, or its folder has
            another model's vocabulary.
        OSError: `output` cannot be written; an earlier file is unchanged.
        ImportError: a package that the format requires is not installed.
    """
    _check_options(format, stateful, weights, quantize)
    run, (module, suffix, every_task) = Run.open(folder), FORMATS[format]
    if stateful:
        module = STATEFUL[format]
    output = Path(output or run.folder / f"model{suffix}")
    if suffix and output.suffix != suffix:
        raise ValueError(f"output: expected a file with the suffix {suffix}, got {output}")
    task = run.config.task
    if not every_task and task != "sentiment":
        raise ValueError(
            f"expected the run of a sentiment classifier to export as {format}, got one of {task}; "
            "use safetensors, which supports every run"
        )
    save = import_module(f"seqcells.lab.export.{module}").save
    vocabulary = run.load_vocabulary() if task_of(run.config).reads_text else None
    model, config = _load_best(run, vocabulary)
    words = b"" if vocabulary is None else run.words.read_bytes()
    target = output.parent if suffix else output
    vocabulary_path = target / run.words.name
    if words and vocabulary_path.exists() and vocabulary_path.read_bytes() != words:
        raise ValueError(
            f"expected {vocabulary_path} to be the model's vocabulary, got another one; "
            "choose an output in another folder"
        )
    try:
        if not output.parent.exists():
            output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(output, error) from error
    options = {}
    if format == "c":
        dtype = None if quantize is None else getattr(torch, quantize)
        options = {"weights": weights, "vocabulary": vocabulary, "dtype": dtype}
    save(model, config, output, **options)
    if words and not vocabulary_path.exists():
        write_atomically(vocabulary_path, lambda file: file.write(words))
    return output


def _check_options(format: str, stateful: bool, weights: str | None, quantize: str | None) -> None:
    if format not in FORMATS:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")
    if stateful and format not in STATEFUL:
        raise ValueError(
            f"stateful: expected the format {' or '.join(STATEFUL)}, got {format}; "
            "use --format onnx, or export without --stateful"
        )
    for name, value, known in (("weights", weights, WEIGHTS), ("quantize", quantize, QUANTIZED)):
        if value is None:
            continue
        if format != "c":
            raise ValueError(
                f"{name}: expected the format c, got {format}; use --format c, or export without "
                f"--{name}"
            )
        if value not in known:
            raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}")


def _load_best(run: Run, vocabulary: Vocabulary | None) -> tuple[nn.Module, Config]:
    model, config = load_best(run, vocabulary), run.config
    if config.model.backend == "torch":
        config = replace(config, model=replace(config.model, backend="seqcells"))
        weights, model = model.state_dict(), task_of(config).build(vocabulary).eval()
        model.load_state_dict(weights)
    return model, config


__all__ = ["FORMATS", "export_run"]
