"""Trained models for other programs, one file a format. docs/export.md says what each holds."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

from torch import nn

from seqcells.lab.files import write_atomically
from seqcells.lab.text.vocabulary import Vocabulary
from seqcells.lab.training import Config, Run, load_best, task_of

FORMATS = {  # the module that writes each, and how its files end
    "safetensors": ("weights", ".safetensors"),
    "torch-export": ("program", ".pt2"),
    "onnx": ("onnx", ".onnx"),
}


def export_run(folder: str | Path, format: str, output: str | Path | None = None) -> Path:
    """Write the best model of a run as one file, its vocabulary beside it; return the file.

    A `format` is one of `FORMATS`; the `output` is the run's own `model` with that suffix unless
    it is given. A model on torch.nn's layers goes out on ours, which have the same weights.

    Raises:
        ValueError: no run, or one that the format does not take; an unknown format; an output of
            another suffix, or where another model's vocabulary stands.
        ImportError: a package that the format needs is missing.
    """
    if format not in FORMATS:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")
    run, (module, suffix) = Run.open(folder), FORMATS[format]
    output = Path(output or run.folder / f"model{suffix}")
    if output.suffix != suffix:
        raise ValueError(f"output: expected a file that ends in {suffix}, got {output}")
    task = run.config.task
    if format != "safetensors" and task != "sentiment":
        raise ValueError(
            f"expected the run of a sentiment classifier to export as {format}, got one of {task}; "
            "safetensors takes every run"
        )
    save = import_module(f"seqcells.lab.export.{module}").save
    vocabulary = run.load_vocabulary() if task_of(run.config).reads_text else None
    model, config = _best(run, vocabulary)
    words = b"" if vocabulary is None else run.words.read_bytes()
    beside = output.with_name(run.words.name)
    if words and beside.exists() and beside.read_bytes() != words:
        raise ValueError(
            f"expected {beside} to be the model's vocabulary, got another one; "
            "name an output in another folder"
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    save(model, config, output)
    if words and not beside.exists():
        write_atomically(beside, lambda file: file.write(words))
    return output


def _best(run: Run, vocabulary: Vocabulary | None) -> tuple[nn.Module, Config]:
    model, config = load_best(run, vocabulary), run.config
    if config.model.backend == "torch":
        config = replace(config, model=replace(config.model, backend="seqcells"))
        weights, model = model.state_dict(), task_of(config).build(vocabulary).eval()
        model.load_state_dict(weights)
    return model, config


__all__ = ["FORMATS", "export_run"]
