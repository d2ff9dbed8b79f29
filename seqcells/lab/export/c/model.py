"""A model to write as C, and the pieces of text that its functions share."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field

import torch
from torch import nn

from seqcells.lab.export.c.layers import Layer, layers_of
from seqcells.lab.export.c.products import Arrays, Product, linear_of
from seqcells.lab.export.c.softmax import Cluster, clusters_of
from seqcells.lab.export.c.weights import TYPES
from seqcells.lab.export.parts import Parts
from seqcells.lab.models.inputs import WordInputs
from seqcells.lab.models.readout import Readout
from seqcells.streams.single_steps import single_steps


@dataclass
class Model:
    """A model to write.

    Attributes:
        name: the prefix of all names in C.
        layers: the recurrent layers.
        results: the meaning of the outputs of a step, or an empty string.
        words: the inputs of a model that reads words, or None.
        readout: the readout of a model that pools the steps so far, or None.
        score: the product of the readout's attention that gives the hidden layer, or None.
        head: the product of a linear layer after the recurrence or the readout, or None.
        clusters: the rare words of an adaptive softmax, whose frequent words are in the head.
        arrays: the weights by their names in C, flat, in float32.
        embedded: whether the weights are part of the source.
    """

    name: str
    layers: list[Layer]
    results: str = ""
    words: WordInputs | None = None
    readout: Readout | None = None
    score: Product | None = None
    head: Product | None = None
    clusters: list[Cluster] = field(default_factory=list)
    arrays: Arrays = field(default_factory=dict)
    embedded: bool = True

    @property
    def outputs(self) -> int:
        """The number of outputs per step."""
        if self.clusters:
            return self.clusters[-1].first + self.clusters[-1].logits.rows
        return self.head.rows if self.head else self.layers[-1].width

    @property
    def sizes(self) -> dict[torch.dtype, int]:
        """The number of weights in the arrays, by type. Those of int8 include padding."""
        return {
            dtype: sum(array.numel() for array in self.arrays.values() if array.dtype is dtype)
            for dtype in TYPES
        }

    @property
    def pooling(self) -> Readout | None:
        """The readout, if it reads more than the last step."""
        return self.readout if self.readout and self.readout.kinds != ("last",) else None

    @property
    def step_input(self) -> str:
        """The argument of a step for its input."""
        return "const float *input" if self.words is None else "int32_t word"

    @property
    def run_inputs(self) -> str:
        """The argument of consecutive steps for their inputs."""
        return "const float *inputs" if self.words is None else "const int32_t *words"

    @property
    def weights_pointer(self) -> str:
        """The statement that declares `weights` in a function with an argument `state`."""
        source = "&@_constants" if self.embedded else "(const @_weights *)state->weights"
        return f"const @_weights *const weights = {source};"

    def prefixed(self, text: str) -> str:
        """Replace `@` by the prefix."""
        return text.replace("@", self.name)


@torch.no_grad()
def model_of(parts: Parts, name: str, block: int) -> Model:
    """Return a model with the weights of `parts`, in blocks of `block` rows."""
    steps = single_steps(parts.recurrent, 1).with_full_matrices()
    layers = layers_of(parts.recurrent, steps.calls, steps.residual, block)
    model = Model(name, layers, parts.results)
    arrays, model.words, model.readout = model.arrays, parts.inputs, parts.readout
    if parts.inputs is not None:
        arrays["words"] = parts.inputs.words.weight.flatten()
        if parts.inputs.ngrams is not None:
            arrays["ngrams"] = parts.inputs.ngrams.vectors.weight.flatten()
    for layer in model.layers:
        arrays |= layer.arrays
    features = model.layers[-1].width
    if parts.readout is not None:
        features *= len(parts.readout.kinds)
        if (attention := parts.readout.attention) is not None:
            model.score = linear_of(attention.hidden, "attention_hidden", arrays, block)
            arrays["attention_weight"] = attention.weight.weight.flatten()
    if parts.head is not None:
        if parts.head.in_features != features:
            raise ValueError(
                f"head: expected {features} input features, the module's outputs, "
                f"got {parts.head.in_features}"
            )
        if isinstance(parts.head, nn.AdaptiveLogSoftmaxWithLoss):
            model.head = linear_of(parts.head.head, "head", arrays, block)
            model.clusters = clusters_of(parts.head, arrays, block)
        else:
            model.head = linear_of(parts.head, "head", arrays, block)
    return model


def function(head: str, body: list[str]) -> str:
    """Return the text of a function."""
    return "\n".join([f"{head} {{", textwrap.indent("\n".join(body), "  "), "}"])
