"""Versions and machine, as recorded in the metrics of a run and shown in reports."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import torch

from seqcells import __version__


def describe_environment(device: torch.device | None = None) -> dict[str, str | int]:
    """Return date, versions and machine, without host name; with the model of a CUDA `device`."""
    gpu = {"gpu": torch.cuda.get_device_name(device)} if device and device.type == "cuda" else {}
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "seqcells": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count() or 1,
        **gpu,
    }


def processor() -> str:
    """Return the name of the processor, from /proc/cpuinfo if it has one."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
