"""ONNX export of text classifiers and of single layers, with standard ONNX operators."""

from pathlib import Path

import torch
from torch import nn

from seqcells.lab.export.directions import LAYERS, directions_by_layer
from seqcells.lab.export.graph import Graph, ModelProto, write
from seqcells.lab.export.metadata import to_metadata
from seqcells.lab.export.parts import check_module, refuse_quantized
from seqcells.lab.export.recurrence import Steps, add_recurrence, add_steps
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
        ValueError: `model` is not a recurrent text classifier, is in training mode, not in float32
            or quantized, or has cells that are not gated cells.
    """
    check_classifier(model)
    graph = Graph()
    tokens = graph.input("tokens", torch.int64, ["time", "batch"], "words, padded with zeros")
    lengths = _lengths(graph)
    vectors = add_inputs(graph, model.inputs, tokens)
    steps, layers = add_steps(graph, vectors, lengths), directions_by_layer(model.recurrent)
    residual = getattr(model.recurrent, "residual", False)
    outputs, final = add_recurrence(graph, layers, vectors, steps, residual=residual)
    hidden = add_final_hidden(graph, final[-1])
    features = _add_readout(graph, model.readout, outputs, hidden, lengths, steps)
    logits = add_logits(graph, model.head, features)
    graph.output(logits, "logits", ["batch"], "log-odds that a text is positive")
    return graph.model("TextClassifier")


def layers_to_onnx(layers: nn.RNNBase) -> ModelProto:
    """Convert an RNN, GRU or LSTM of seqcells or torch.nn in evaluation mode.

    Inputs are `inputs (time, batch, I)`, float32, and `lengths (batch)`, int64, from 0 to `time`.
    The initial state is zero. Outputs are `outputs (time, batch, D*H)`, zero past each length,
    `h_n (L*D, batch, H)` and, for an LSTM, `c_n`. H is `proj_size` for the outputs and `h_n` of an
    LSTM with projections. With `batch_first`, `inputs` and `outputs` start with the batch
    dimension.

    Raises:
        ValueError: `layers` is another module, is in training mode, not in float32 or quantized.
    """
    if type(layers) not in LAYERS:
        raise ValueError(f"expected an RNN, GRU or LSTM, got {type(layers).__name__}")
    check_module(layers)
    refuse_quantized(layers)
    graph = Graph()
    batch_first = layers.batch_first
    shape = ["batch", "time"] if batch_first else ["time", "batch"]
    source = graph.input("inputs", torch.float32, [*shape, layers.input_size], "")
    inputs = graph.node("Transpose", source, perm=[1, 0, 2]) if batch_first else source
    steps, directions = add_steps(graph, inputs, _lengths(graph)), directions_by_layer(layers)
    outputs, final = add_recurrence(graph, directions, inputs, steps)
    if batch_first:
        outputs = graph.node("Transpose", outputs, perm=[1, 0, 2])
    rows = [state for states in final for state in states]
    width = sum(run.output_size for run in directions[-1])
    graph.output(outputs, "outputs", [*shape, width], "zero past each length")
    for name, parts, start in zip(("h_n", "c_n"), zip(*rows), directions[0][0].start):
        state, size = graph.node("Concat", *parts, axis=0), start.shape[1]
        graph.output(state, name, [len(rows), "batch", size], "final state of each row")
    return graph.model(type(layers).__name__)


def check_classifier(model: nn.Module) -> None:
    """Raise a ValueError unless `model` is a recurrent text classifier that can be exported."""
    if type(model) is not TextClassifier:
        raise ValueError(
            f"expected a recurrent classifier of texts, got {type(model).__name__}; "
            "use torch-export or safetensors, which support every classifier"
        )
    check_module(model)
    refuse_quantized(model)


def _lengths(graph: Graph) -> str:
    return graph.input("lengths", torch.int64, ["batch"], "number of steps per row")


def add_inputs(graph: Graph, inputs: WordInputs, tokens: str) -> str:
    """Add the input vectors `(T, B, E)`."""
    vectors = graph.node("Gather", graph.constant(inputs.words.weight), tokens)
    if inputs.ngrams is None:
        return vectors
    return graph.node("Add", vectors, add_ngrams(graph, inputs.ngrams, tokens))


def add_ngrams(graph: Graph, ngrams: HashedNgrams, tokens: str) -> str:
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


def add_final_hidden(graph: Graph, states: list[list[str]]) -> str:
    """Add the hidden state `(B, D*H)` of a layer's directions, with parts `(1, B, H)`."""
    hidden = [state[0] for state in states]
    together = hidden[0] if len(hidden) == 1 else graph.node("Concat", *hidden, axis=-1)
    return graph.node("Squeeze", together, graph.constant([0]))


def _add_readout(
    graph: Graph, readout: Readout, outputs: str, final: str, lengths: str, steps: Steps
) -> str:
    """Add the readout `(B, features)` of outputs `(T, B, D*H)` and final states `(B, D*H)`."""
    parts = []
    for kind in readout.kinds:
        if kind == "last":
            part = final
        elif kind == "max":
            part = graph.node("Where", steps.valid, outputs, graph.constant(-torch.inf))
            part = graph.node("ReduceMax", part, graph.constant([0]), keepdims=0)
        elif kind == "mean":
            counts = graph.node("Cast", lengths, to=graph.FLOAT)
            counts = graph.node("Unsqueeze", counts, graph.constant([1]))
            part = graph.node("Div", _add_sum(graph, steps.valid, outputs), counts)
        else:
            part = _add_attention(graph, readout.attention, outputs, steps.valid)
        parts.append(part)
    return graph.node("Concat", *parts, axis=-1)


def _add_sum(graph: Graph, valid: str, values: str) -> str:
    """Sum values `(T, B, H)` over time, without padding."""
    values = graph.node("Where", valid, values, graph.constant(0.0))
    return graph.node("ReduceSum", values, graph.constant([0]), keepdims=0)


def _add_attention(graph: Graph, attention: Attention, outputs: str, valid: str) -> str:
    scores = add_scores(graph, attention, outputs)
    scores = graph.node("Where", valid, scores, graph.constant(-torch.inf))
    weights = graph.node("Softmax", scores, axis=0)
    return _add_sum(graph, valid, graph.node("Mul", weights, outputs))


def add_scores(graph: Graph, attention: Attention, outputs: str) -> str:
    """Add the scores `(T, B, 1)` of outputs `(T, B, H)`, before the softmax."""
    hidden = graph.node("Tanh", add_linear(graph, attention.hidden, outputs))
    return add_linear(graph, attention.weight, hidden)


def add_logits(graph: Graph, head: nn.Linear, features: str) -> str:
    """Add the logits `(B)` of features `(B, F)`."""
    return graph.node("Squeeze", add_linear(graph, head, features), graph.constant([-1]))


def add_linear(graph: Graph, linear: nn.Linear, values: str) -> str:
    product = graph.node("MatMul", values, graph.constant(linear.weight.T))
    return (
        product if linear.bias is None else graph.node("Add", product, graph.constant(linear.bias))
    )
