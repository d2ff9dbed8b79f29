"""The end of a run: evaluate on the test split and write the result."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from seqcells import quantize as quantized
from seqcells.lab.machine import describe_environment
from seqcells.lab.suggestion import check_name
from seqcells.lab.text.vocabulary import Vocabulary
from seqcells.lab.training import processes
from seqcells.lab.training.devices import device_of
from seqcells.lab.training.hints import suggest_commands
from seqcells.lab.training.metrics import Progress, evaluate
from seqcells.lab.training.runs import Run
from seqcells.lab.training.tasks import task_of
from seqcells.lab.training.tasks.base import describe
from seqcells.lab.training.termination import InterruptedRunError, never_interrupted

NARROW = {"int8": torch.int8, "bfloat16": torch.bfloat16}


def load_best(run: Run, vocabulary: Vocabulary | None, quantize: str | None = None) -> nn.Module:
    """Load a run's best model, in evaluation mode.

    `quantize` names the dtype of the recurrent matrices. Layers of torch.nn, which have the same
    parameters, are then replaced by those of seqcells.
    """
    config = run.config
    if quantize is None:
        return task_of(config).load_best(run, vocabulary)
    check_name("quantize", quantize, tuple(NARROW))
    if config.model.kind != "recurrent":
        raise ValueError(
            f"quantize: expected a run of a recurrent model, got {run.folder}, whose model.kind is "
            f"{config.model.kind}; leave quantize out"
        )
    model = replace(config.model, backend="seqcells")
    network = task_of(replace(config, model=model)).load_best(run, vocabulary)
    return quantized(network, NARROW[quantize])


def finish(
    run: Run,
    vocabulary: Vocabulary | None,
    progress: Progress,
    interrupted: Callable[[], bool] = never_interrupted,
) -> dict[str, Any]:
    """Test the best model and write `metrics.json`."""
    device = device_of(run.config.training)
    task, model = task_of(run.config), load_best(run, vocabulary).to(device)
    try:
        test = evaluate(task, model, task.load_split(vocabulary, "test"), interrupted)
    except InterruptedRunError:
        raise InterruptedRunError(
            f"interrupted in the test; continue with: {run.resume_command()}"
        ) from None
    seconds = sum(epoch["seconds"] for epoch in progress.history)
    tokens = sum(epoch["tokens_per_second"] * epoch["seconds"] for epoch in progress.history)
    result = {
        **{f"test_{name}": score for name, score in test.items()},
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        **select_scores(progress.history[progress.best_epoch - 1], "validation"),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokens_per_second": tokens / seconds,
        "train_seconds": seconds,
        "total_seconds": run.seconds,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "processes": processes.world_size(),
        **describe_environment(device),
    }
    if processes.is_main():
        run.write_result(result)
    return result


def select_scores(metrics: dict[str, Any], split: str) -> dict[str, float]:
    """Return the metrics of a split, with their full names."""
    return {name: metrics[name] for name in metrics if name.startswith(split + "_")}


def scores(result: dict[str, Any], split: str) -> dict[str, float]:
    """Return the scores of a split in `metrics.json`, without the prefix of the split."""
    return {name.partition("_")[2]: value for name, value in select_scores(result, split).items()}


def conclude(run: Run, result: dict[str, Any]) -> str:
    """Return the closing lines of a run: scores, folder, and commands to try next."""
    return (
        f"test {describe(scores(result, 'test'))} with the model of epoch {result['best_epoch']}\n"
        f"{result['parameters']:,} parameters, trained in {result['train_seconds']:.0f} s\n"
        f"run: {run.folder}\n"
        "try next:\n  " + "\n  ".join(suggest_commands(run))
    )
