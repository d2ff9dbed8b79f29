"""Labels and values of metrics, settings and the environment, in words and units."""

import shlex
from collections.abc import Sequence
from decimal import Decimal
from pathlib import PurePath
from typing import Any

import seqcells
from seqcells.lab.machine import describe_environment
from seqcells.lab.training import Run

LABELS = {
    "best_epoch": "selected epoch",
    "epochs": "epochs trained",
    "tokens_per_second": "training speed",
    "train_seconds": "training time",
    "total_seconds": "total time, with validation and test",
}
MACHINE = ("processor", "cores", "platform")
# Entries of `metrics.json` that are in the table of the environment.
ENVIRONMENT = (
    *("device", "gpu", "threads", "processes", "date", "seqcells", "torch", "python"),
    *MACHINE,
)
NOT_RECORDED = "not recorded"


def label(name: str) -> str:
    """Return a metric's name in words."""
    return LABELS.get(name, name.replace("_", " "))


def metric(value: Any, name: str) -> str:
    """Format a value of `metrics.json` with its unit."""
    if name.endswith("accuracy"):
        return f"{value:.2%}"
    if name.endswith("seconds"):
        return duration(value)
    if name == "tokens_per_second":
        return f"{value:,.0f} tokens/s"
    if isinstance(value, float):
        digits = f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
        return f"{Decimal(digits):f}" if 1e-8 < abs(value) < 1e-4 else digits
    return f"{value:,}" if isinstance(value, int) else str(value)


def duration(seconds: float) -> str:
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def setting(value: Any) -> str:
    """Format a setting as on the command line, with a dash for null.

    An absolute path is reduced to its last part, so that pages can be shared.
    """
    if value in (None, {}, []):
        return "–"
    if isinstance(value, list):
        return ",".join(map(setting, value))
    if isinstance(value, str) and PurePath(value).is_absolute():
        return PurePath(value).name
    return str(value)


def probability(value: float) -> str:
    """Format a probability; values other than 0 and 1 do not round to 0% or 100%."""
    text = f"{value:.2%}"
    return {"0.00%": "< 0.01%", "100.00%": "> 99.99%"}.get(text, text) if 0 < value < 1 else text


def run_names(runs: Sequence[Run]) -> list[str]:
    """Return the names of the folders, with as many parents as make them distinct."""
    folders = [run.folder.resolve().parts[1:] for run in runs]
    names = []
    for depth in range(1, max(map(len, folders)) + 1):
        names = ["/".join(parts[-depth:]) for parts in folders]
        if len(set(names)) == len(set(folders)):
            break
    return names


def training_environment(run: Run, result: dict[str, Any]) -> dict[str, str]:
    """Return the recorded environment of the training; earlier runs have less of it."""
    gpu = f" ({result['gpu']})" if "gpu" in result else ""
    return {
        "date": str(result.get("date", NOT_RECORDED)),
        "command to repeat": repeat_command(run, result),
        "versions": _versions(result),
        "machine": _machine(result),
        "device": f"{result['device']}{gpu}",
        "threads": f"{result['threads']:,}",
        "processes": f"{result['processes']:,}",
    }


def report_environment() -> dict[str, str]:
    """Return the environment in which the report is written."""
    now = describe_environment()
    return {
        "date": str(now["date"]),
        "versions": _versions(now),
        "machine": _machine(now),
        "CPU kernels": seqcells.backends()["cpu"],
    }


def repeat_command(run: Run, result: dict[str, Any]) -> str:
    """Return the command that trains with the settings of a run."""
    folder = run.folder.resolve().name if run.folder.is_absolute() else run.folder.as_posix()
    processes = result["processes"]
    launcher = f"torchrun --nproc-per-node {processes}" if processes > 1 else "python"
    return f"{launcher} train.py {shlex.quote(f'{folder}/{run.settings.name}')}"


def _versions(environment: dict[str, Any]) -> str:
    names = {"seqcells": "seqcells", "torch": "PyTorch", "python": "Python"}
    return ", ".join(
        f"{name} {environment[key]}" for key, name in names.items() if key in environment
    )


def _machine(environment: dict[str, Any]) -> str:
    if not all(name in environment for name in MACHINE):
        return NOT_RECORDED
    return f"{environment['processor']}, {environment['cores']} cores, {environment['platform']}"
