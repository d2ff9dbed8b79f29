"""The parts of a model that reads its inputs one step at a time, for stateful exports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from seqcells.cells.base import GatedCell
from seqcells.kernels.narrow import MATRICES
from seqcells.lab.models.classifiers import TextClassifier
from seqcells.lab.models.inputs import WordInputs
from seqcells.lab.models.language import LanguageModel
from seqcells.lab.models.readout import Readout
from seqcells.lab.models.sequences import SequenceReader, SequenceTagger
from seqcells.layers import _Layers
from seqcells.modifiers.base import Modifier

RESULTS = {  # of a step, by class of the model
    TextClassifier: "the logit of the text so far",
    LanguageModel: "the logits of the next word; word 0 starts and ends a text",
    SequenceTagger: "the logits of the word's tags",
    SequenceReader: "the results for the steps so far",
}
MODELS = tuple(RESULTS)


class Parts(NamedTuple):
    """A model as a chain: each part reads the results of the part before.

    Attributes:
        inputs: maps words to vectors; None if the model reads vectors.
        recurrent: the recurrent network, which runs forward.
        readout: pools the outputs of all steps so far; None if the head reads the last output.
        head: None if the results are the outputs of the network.
        results: the meaning of the results of a step.
    """

    inputs: WordInputs | None
    recurrent: nn.Module
    readout: Readout | None
    head: nn.Linear | nn.AdaptiveLogSoftmaxWithLoss | None
    results: str = ""


def parts_of(model: nn.Module) -> Parts:
    """Return the parts of a model in evaluation mode.

    Raises:
        ValueError: `model` is none of `MODELS`, bidirectional, in training mode or not in float32.
    """
    if type(model) not in MODELS:
        raise ValueError(
            "expected a recurrent model that reads one step at a time, got "
            f"{type(model).__name__}; use safetensors, which supports every run"
        )
    check_module(model)
    if _is_bidirectional(model.recurrent):
        raise ValueError(
            "expected a unidirectional model, got a bidirectional one, which needs the whole text; "
            "train with model.bidirectional false, or use a format that reads whole texts"
        )
    head = model.next.head if isinstance(model, LanguageModel) else model.head
    results = RESULTS[type(model)]
    if isinstance(head, nn.AdaptiveLogSoftmaxWithLoss):
        results = results.replace("logits", "log-probabilities")
    return Parts(
        inputs=getattr(model, "inputs", None),
        recurrent=model.recurrent,
        readout=getattr(model, "readout", None),
        head=head,
        results=results,
    )


def check_module(module: nn.Module) -> None:
    """Raise a ValueError unless the module is in evaluation mode and in float32."""
    noisy = (part for part in module.modules() if isinstance(part, Modifier))
    if module.training or any(part.training for part in noisy):
        raise ValueError("expected a module in evaluation mode, got training mode; call .eval()")
    types = {parameter.dtype for parameter in module.parameters()} - {torch.float32}
    if types:
        raise ValueError(f"expected weights in float32, got {types.pop()}; call .float()")


def matrices_of(module: nn.Module) -> Iterator[tuple[Any, str]]:
    """Yield the part and the name of each matrix in the recurrences of seqcells."""
    for part in module.modules():
        if isinstance(part, _Layers):
            yield from (
                (part, name) for names in part._all_weights for name in names if "weight" in name
            )
        elif isinstance(part, GatedCell):
            for name in MATRICES:
                weight = getattr(part, name, None)
                if isinstance(weight, Tensor) and weight.dim() == 2:
                    yield part, name


def stored_dtype(module: nn.Module) -> torch.dtype | None:
    """Return the dtype of the matrices of a quantized module, or None for other modules.

    Raises:
        ValueError: recurrences differ in it.
    """
    dtypes = {
        part._buffers[name].dtype if name in part._buffers else None
        for part, name in matrices_of(module)
    }
    if len(dtypes) > 1:
        raise ValueError(
            "module: expected all recurrences or none to be quantized, and to one dtype, got "
            "several dtypes; call quantize() on the whole module"
        )
    return dtypes.pop() if dtypes else None


def refuse_quantized(module: nn.Module) -> None:
    """Raise a ValueError if a recurrence of the module is quantized."""
    for part, name in matrices_of(module):
        if name in part._buffers:
            dtype = str(part._buffers[name].dtype).removeprefix("torch.")
            raise ValueError(
                f"expected weights in float32, got a module that is quantized to {dtype}; export "
                "the module before quantize(), or use write_c, which supports quantized modules"
            )


def _is_bidirectional(recurrent: nn.Module) -> bool:
    if isinstance(recurrent, nn.RNNBase):
        return recurrent.bidirectional
    return any(isinstance(layer, nn.ModuleList) for layer in getattr(recurrent, "layers", ()))
