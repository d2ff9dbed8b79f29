"""Stateful ONNX export of text classifiers, for texts that arrive in chunks of words."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from seqcells.lab.export.graph import Graph, ModelProto, write
from seqcells.lab.export.metadata import to_metadata
from seqcells.lab.export.onnx import (
    add_final_hidden,
    add_inputs,
    add_logits,
    add_ngrams,
    add_scores,
    check_classifier,
)
from seqcells.lab.export.parts import parts_of
from seqcells.lab.export.stateful import State, add_layers, forward_layers
from seqcells.lab.models.inputs import WordInputs
from seqcells.lab.models.readout import Attention, Readout
from seqcells.lab.training import Config


def save(model: nn.Module, config: Config, path: Path) -> None:
    """Write the stateful ONNX model, with `config` in its metadata."""
    write(classifier_to_stateful_onnx(model), to_metadata(config), path)


def classifier_to_stateful_onnx(model: nn.Module) -> ModelProto:
    """Convert a unidirectional text classifier in evaluation mode to one that reads in chunks.

    The first input is `tokens (time, batch)`, int64, the next words of each text, without padding.
    The first output is `logits (batch)`, float32, for the text up to the last of these words. The
    other inputs and outputs are the state, as in `to_stateful_onnx`. It has, where the model needs
    them:

    - `words_0 (n - 1, batch)`, int64: the last words, for hashed n-grams up to n words;
    - `h_0`, `c_0` and so on: the recurrent state;
    - `count_0 (batch)`, int64: the number of words so far, for a readout other than `last`;
    - `max_0 (batch, H)` and `sum_0 (batch, H)`: the maximum and the sum of the outputs so far;
    - `score_0 (batch, 1)`, `weighted_0 (batch, H)` and `weight_0 (batch, 1)`: the largest score of
      the attention, and the weighted sum of the outputs with the sum of its weights.

    A text starts from zeros, except for tensors in the metadata under `initial_state`.

    Raises:
        ValueError: `model` is not a recurrent text classifier, is bidirectional, in training mode,
            not in float32 or quantized, or has cells that are not gated cells.
    """
    check_classifier(model)
    parts = parts_of(model)
    layers = forward_layers(parts.recurrent)
    graph = Graph()
    tokens = graph.input("tokens", torch.int64, ["time", "batch"], "words, without padding")
    state = State(graph)
    vectors = _add_words(state, parts.inputs, tokens)
    outputs, final = add_layers(state, parts.recurrent, layers, vectors)
    hidden = add_final_hidden(graph, [final])
    features = _add_readout(state, parts.readout, outputs, hidden, layers[-1].output_size)
    graph.output(add_logits(graph, parts.head, features), "logits", ["batch"])
    return state.model("TextClassifier")


def _add_words(state: State, inputs: WordInputs, tokens: str) -> str:
    """Add the input vectors `(T, B, E)`; n-grams also read the last words of the state."""
    if inputs.ngrams is None:
        return add_inputs(state.graph, inputs, tokens)
    graph, before = state.graph, inputs.longest - 1
    words = state.read("words", [before, "batch"], torch.int64)
    words = graph.node("Concat", words, tokens, axis=0)
    ends = graph.constant([torch.iinfo(torch.int64).max])
    state.write("words", graph.node("Slice", words, graph.constant([-before]), ends))
    ngrams = add_ngrams(graph, inputs.ngrams, words)
    ngrams = graph.node("Slice", ngrams, graph.constant([before]), ends)
    vectors = graph.node("Gather", graph.constant(inputs.words.weight), tokens)
    return graph.node("Add", vectors, ngrams)


def _add_readout(state: State, readout: Readout, outputs: str, hidden: str, size: int) -> str:
    """Add the features `(B, F)` up to the last step, whose hidden state is `hidden (B, H)`."""
    parts = {"last": hidden}
    if set(readout.kinds) - {"last"}:
        running = _RunningReadout(state, outputs, size)
        if "max" in readout.kinds:
            parts["max"] = running.maximum()
        if "mean" in readout.kinds:
            parts["mean"] = running.mean()
        if readout.attention is not None:
            parts["attention"] = running.attend(readout.attention)
    return state.graph.node("Concat", *(parts[kind] for kind in readout.kinds), axis=-1)


class _RunningReadout:
    """Nodes that continue a readout over further outputs `(T, B, H)`.

    The equations are those of `seqcells.lab.models.readout.RunningReadout`.
    """

    def __init__(self, state: State, outputs: str, size: int) -> None:
        graph = state.graph
        self.state, self.graph, self.outputs, self.size = state, graph, outputs, size
        count, axis = state.read("count", ["batch"], torch.int64), graph.constant([1])
        first = graph.node("Equal", count, graph.constant([0]))
        self.first = graph.node("Unsqueeze", first, axis)  # (B, 1)
        count = graph.node("Add", count, graph.node("Shape", outputs, start=0, end=1))
        state.write("count", count)
        self.count = graph.node("Unsqueeze", graph.node("Cast", count, to=graph.FLOAT), axis)

    def maximum(self) -> str:
        return self._running_maximum("max", self.outputs, self.size)[1]

    def mean(self) -> str:
        total = self._running_sum("sum", self.outputs, self.size)
        return self.graph.node("Div", total, self.count)

    def attend(self, attention: Attention) -> str:
        """Add the attention-weighted mean.

        Weights are relative to the largest score so far, which avoids overflow.
        """
        graph = self.graph
        scores = add_scores(graph, attention, self.outputs)
        before, largest = self._running_maximum("score", scores, 1)
        weights = graph.node("Exp", graph.node("Sub", scores, largest))
        rescale = graph.node("Exp", graph.node("Sub", before, largest))
        rescale = graph.node("Where", self.first, graph.constant(0.0), rescale)
        values = graph.node("Mul", weights, self.outputs)
        weighted = self._running_sum("weighted", values, self.size, rescale)
        total = self._running_sum("weight", weights, 1, rescale)
        return graph.node("Div", weighted, total)

    def _running_maximum(self, name: str, values: str, size: int) -> tuple[str, str]:
        """Add the running maximum; return its old and its new value."""
        graph = self.graph
        before = self.state.read(name, ["batch", size])
        new = graph.node("ReduceMax", values, graph.constant([0]), keepdims=0)
        largest = graph.node("Where", self.first, new, graph.node("Max", before, new))
        self.state.write(name, largest)
        return before, largest

    def _running_sum(self, name: str, values: str, size: int, rescale: str = "") -> str:
        """Add the running sum; `rescale` is a factor on its old value."""
        graph = self.graph
        before = self.state.read(name, ["batch", size])
        if rescale:
            before = graph.node("Mul", before, rescale)
        new = graph.node("ReduceSum", values, graph.constant([0]), keepdims=0)
        total = graph.node("Add", before, new)
        self.state.write(name, total)
        return total
