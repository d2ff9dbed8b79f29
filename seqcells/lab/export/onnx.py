"""ONNX export of text classifiers and of single layers, with standard ONNX operators."""

from pathlib import Path

import torch
from torch import nn

from seqcells.lab.export.graph import Graph, ModelProto, write
from seqcells.lab.export.metadata import to_metadata
from seqcells.lab.export.recurrence import LAYERS, add_recurrence
from seqcells.lab.models import TextClassifier
from seqcells.lab.models.inputs import MULTIPLIER, PRIME, HashedNgrams, WordInputs
from seqcells.lab.models.readout import Attention, Readout
from seqcells.lab.training import Config


def save(model: nn.Module, config: Config, path: Path) -> None:
    """Write the ONNX model, with `config` in its metadata."""
    write(classifier_to_onnx(model), to_metadata(config), path)


def classifier_to_onnx(model: nn.Module) -> ModelProto:
    """Convert a recurrent text classifier in evaluation mode.

    Inputs are `tokens (time, batch)` and `lengths (batch)`, int64, with lengths from 1 to `time`.
    The output is `logits (batch)`, float32: the log-odds that a text is positive.

    Raises:
        ValueError: `model` is not a recurrent text classifier, is in training mode or not in
            float32, or has cells or modifiers without an ONNX operator.
    """
    if type(model) is not TextClassifier:
        raise ValueError(
            f"expected a recurrent classifier of texts, got {type(model).__name__}; "
            "use torch-export or safetensors, which support every classifier"
        )
    _check(model)
    graph = Graph()
    tokens = graph.input("tokens", torch.int64, ["time", "batch"], "words, padded with zeros")
    lengths = _lengths(graph)
    vectors = _add_inputs(graph, model.inputs, tokens)
    outputs, final = add_recurrence(graph, model.recurrent, vectors, _as_int32(graph, lengths))
    features = _add_readout(graph, model.readout, outputs, final[-1][0], lengths)
    logits = _add_linear(graph, model.head, features)
    logits = graph.node("Squeeze", logits, graph.constant([-1]))
    graph.output(logits, "logits", ["batch"], "log-odds that a text is positive")
    return graph.model("TextClassifier")


def layers_to_onnx(layers: nn.RNNBase) -> ModelProto:
    """Convert an RNN, GRU or LSTM of seqcells or torch.nn in evaluation mode.

    Inputs are `inputs (time, batch, I)`, float32, and `lengths (batch)`, int64, from 0 to `time`.
    The initial state is zero. Outputs are `outputs (time, batch, D*H)`, zero past each length,
    `h_n (L*D, batch, H)` and, for an LSTM, `c_n`. With `batch_first`, `inputs` and `outputs` start
    with the batch dimension.

    Raises:
        ValueError: `layers` is another module, has projections, is in training mode or not in
            float32.
    """
    if type(layers) not in LAYERS:
        raise ValueError(f"expected an RNN, GRU or LSTM, got {type(layers).__name__}")
    _check(layers)
    graph = Graph()
    batch_first = layers.batch_first
    shape = ["batch", "time"] if batch_first else ["time", "batch"]
    source = graph.input("inputs", torch.float32, [*shape, layers.input_size], "")
    inputs = graph.node("Transpose", source, perm=[1, 0, 2]) if batch_first else source
    lengths = _as_int32(graph, _lengths(graph))
    outputs, final = add_recurrence(graph, layers, inputs, lengths)
    if batch_first:
        outputs = graph.node("Transpose", outputs, perm=[1, 0, 2])
    width = layers.hidden_size * (2 if layers.bidirectional else 1)
    graph.output(outputs, "outputs", [*shape, width], "zero past each length")
    for name, parts in zip(("h_n", "c_n"), zip(*final)):
        rows = len(layers.all_weights)
        state = graph.node("Concat", *parts, axis=0)
        graph.output(state, name, [rows, "batch", layers.hidden_size], "final state of each row")
    return graph.model(type(layers).__name__)


def _check(module: nn.Module) -> None:
    if module.training:
        raise ValueError("expected a module in evaluation mode, got training mode; call .eval()")
    types = {parameter.dtype for parameter in module.parameters()} - {torch.float32}
    if types:
        raise ValueError(f"expected weights in float32, got {types.pop()}; call .float()")


def _lengths(graph: Graph) -> str:
    return graph.input("lengths", torch.int64, ["batch"], "number of steps per row")


def _as_int32(graph: Graph, lengths: str) -> str:
    """Cast to int32, as the recurrent operators of ONNX require."""
    return graph.node("Cast", lengths, to=graph.INT32)


def _add_inputs(graph: Graph, inputs: WordInputs, tokens: str) -> str:
    """Add the input vectors `(T, B, E)`."""
    vectors = graph.node("Gather", graph.constant(inputs.words.weight), tokens)
    if inputs.ngrams is None:
        return vectors
    return graph.node("Add", vectors, _add_ngrams(graph, inputs.ngrams, tokens))


def _add_ngrams(graph: Graph, ngrams: HashedNgrams, tokens: str) -> str:
    """Add `HashedNgrams`: buckets in int64 and the sum of their vectors."""
    vectors = graph.constant(ngrams.vectors.weight)
    multiplier, prime = graph.constant([MULTIPLIER]), graph.constant([PRIME])
    count, number, parts = graph.constant([ngrams.vectors.num_embeddings]), tokens, []
    for back in range(1, ngrams.longest):
        earlier = graph.node("Pad", tokens, graph.constant([back, 0, 0, 0]))
        earlier = graph.node("Slice", earlier, graph.constant([0]), graph.constant([-back]))
        number = graph.node("Add", graph.node("Mul", number, multiplier), earlier)
        number = graph.node("Mod", number, prime)
        parts.append(graph.node("Gather", vectors, graph.node("Mod", number, count)))
    return graph.node("Sum", *parts)


def _add_readout(graph: Graph, readout: Readout, outputs: str, final: str, lengths: str) -> str:
    """Add the readout `(B, features)` of outputs `(T, B, D*H)` and final states `(D, B, H)`."""
    steps = graph.node("Shape", outputs, start=0, end=1)
    steps = graph.node("Squeeze", steps)
    numbers = graph.node("Range", graph.constant(0), steps, graph.constant(1))
    within = graph.node("Less", graph.node("Unsqueeze", numbers, graph.constant([1])), lengths)
    within = graph.node("Unsqueeze", within, graph.constant([2]))  # (T, B, 1)
    parts = []
    for kind in readout.kinds:
        if kind == "last":
            part = graph.node("Transpose", final, perm=[1, 0, 2])
            part = graph.node("Reshape", part, graph.constant([0, -1]))
        elif kind == "max":
            part = graph.node("Where", within, outputs, graph.constant(-torch.inf))
            part = graph.node("ReduceMax", part, graph.constant([0]), keepdims=0)
        elif kind == "mean":
            counts = graph.node("Cast", lengths, to=graph.FLOAT)
            counts = graph.node("Unsqueeze", counts, graph.constant([1]))
            part = graph.node("Div", _add_sum(graph, within, outputs), counts)
        else:
            part = _add_attention(graph, readout.attention, outputs, within)
        parts.append(part)
    return graph.node("Concat", *parts, axis=-1)


def _add_sum(graph: Graph, within: str, values: str) -> str:
    """Sum values `(T, B, H)` over time, without padding."""
    values = graph.node("Where", within, values, graph.constant(0.0))
    return graph.node("ReduceSum", values, graph.constant([0]), keepdims=0)


def _add_attention(graph: Graph, attention: Attention, outputs: str, within: str) -> str:
    hidden = graph.node("Tanh", _add_linear(graph, attention.hidden, outputs))
    scores = _add_linear(graph, attention.weight, hidden)
    scores = graph.node("Where", within, scores, graph.constant(-torch.inf))
    weights = graph.node("Softmax", scores, axis=0)
    return _add_sum(graph, within, graph.node("Mul", weights, outputs))


def _add_linear(graph: Graph, linear: nn.Linear, values: str) -> str:
    product = graph.node("MatMul", values, graph.constant(linear.weight.T))
    return (
        product if linear.bias is None else graph.node("Add", product, graph.constant(linear.bias))
    )
