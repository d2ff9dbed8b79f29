"""The learning rate of a step."""

import math

from seqcells.lab.training.config import TrainingConfig

FLOOR = 0.01  # of the highest learning rate: what the decay ends with


def learning_rate(step: int, total: int, config: TrainingConfig) -> float:
    """Rise linearly through the warm-up, then fall; `step` counts from 0 to `total - 1`."""
    warmup = round(config.warmup * total)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    passed = (step - warmup) / max(total - 1 - warmup, 1)
    height = {
        "none": 1.0,
        "linear": 1 - passed,
        "cosine": (1 + math.cos(math.pi * passed)) / 2,
    }[config.decay]
    return config.learning_rate * (FLOOR + (1 - FLOOR) * height)
