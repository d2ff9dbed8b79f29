"""Recurrent networks for PyTorch: readable cells, layers, and fused kernels."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from seqcells import init
from seqcells.cells import (
    Cell,
    CoupledLSTMCell,
    GatedCell,
    GRUCell,
    IndRNNCell,
    LayerNormGRUCell,
    LayerNormLSTMCell,
    LEMCell,
    LEMState,
    LightLSTMCell,
    LinearCell,
    LSTMCell,
    LSTMState,
    MGUCell,
    MinGRUCell,
    MinLSTMCell,
    MultiplicativeLSTMCell,
    PeepholeLSTMCell,
    RHNCell,
    RNNCell,
    SLSTMCell,
    SLSTMState,
    UGRNNCell,
)
from seqcells.inspect.flow import gradient_flow
from seqcells.inspect.trace import Trace, trace
from seqcells.layers import GRU, LSTM, RNN
from seqcells.modifiers import (
    DropConnect,
    LearnedState,
    RecurrentDropout,
    VariationalDropout,
    Zoneout,
)
from seqcells.moved import redirect_old_names
from seqcells.noise import Noise
from seqcells.quantization import quantize
from seqcells.recurrence.choice import backend, backends
from seqcells.recurrence.invariance import batch_invariant
from seqcells.recurrence.missing_kernel import MissingKernelWarning
from seqcells.recurrent import Recurrent
from seqcells.serialization import register
from seqcells.stack import Stack
from seqcells.state import detach_state
from seqcells.streams import Stepper

if TYPE_CHECKING:
    from seqcells.lab.prediction import Classifier

__version__ = "0.1.0"

redirect_old_names()


def load(run: str | Path, quantize: str | None = None) -> Classifier:
    """Load the classifier from the folder of a training run: see `seqcells.lab.prediction`.

    Args:
        run: the folder.
        quantize: "int8" or "bfloat16" to store the matrices of the recurrence in this dtype, as
            `seqcells.quantize` does.

    Raises:
        ImportError: the dependencies of training and prediction are not installed.
        ValueError: not a run of a classifier, a file is missing or damaged, or `quantize` is
            another dtype or given for a model without a recurrence.
    """
    try:
        prediction = import_module("seqcells.lab.prediction")
    except ModuleNotFoundError as error:
        line = import_module("seqcells.lab.extras").remedy(error)
        if line is None:
            raise
        raise ImportError(line) from error
    return prediction.load(run, quantize)


__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Cell",
    "CoupledLSTMCell",
    "DropConnect",
    "GRUCell",
    "GatedCell",
    "IndRNNCell",
    "LEMCell",
    "LEMState",
    "LSTMCell",
    "LSTMState",
    "LayerNormGRUCell",
    "LayerNormLSTMCell",
    "LearnedState",
    "LightLSTMCell",
    "LinearCell",
    "MGUCell",
    "MinGRUCell",
    "MinLSTMCell",
    "MissingKernelWarning",
    "MultiplicativeLSTMCell",
    "Noise",
    "PeepholeLSTMCell",
    "RHNCell",
    "RNNCell",
    "Recurrent",
    "RecurrentDropout",
    "SLSTMCell",
    "SLSTMState",
    "Stack",
    "Stepper",
    "Trace",
    "UGRNNCell",
    "VariationalDropout",
    "Zoneout",
    "backend",
    "backends",
    "batch_invariant",
    "detach_state",
    "gradient_flow",
    "init",
    "load",
    "quantize",
    "trace",
]

register(globals()[name] for name in __all__)
