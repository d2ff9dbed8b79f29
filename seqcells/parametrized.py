"""Parametrized weights of layers: `torch.nn.utils.parametrize`."""

from __future__ import annotations

from typing import Any


def repeat_reads(layer: Any) -> None:
    """Read each parametrized weight as often as torch's layer does before its last read.

    In a call, torch's layer reads the first parametrized weight four times and the others twice.
    The number matters to `spectral_norm`, which takes a step of its power iteration at each read in
    training. Parametrizations without buffers return the same value every time.
    """
    repeats = 3
    for name in layer._flat_weights_names:
        if name in layer.parametrizations:
            if layer.training and next(layer.parametrizations[name].buffers(), None) is not None:
                for _ in range(repeats):
                    getattr(layer, name)
            repeats = 1
