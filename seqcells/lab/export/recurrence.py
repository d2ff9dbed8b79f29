"""Add recurrences to a graph: as RNN, GRU and LSTM operators of ONNX, or else as `Scan`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqcells.cells.table import EQUATIONS
from seqcells.lab.export.body import add_scan
from seqcells.lab.export.directions import Direction
from seqcells.lab.export.graph import Graph


class Operator(NamedTuple):
    """The ONNX operator of a cell: the cell's gate names in the order of ONNX.

    A gate name with a minus is the complement of the gate: `1 - sigma(z) = sigma(-z)`.
    """

    name: str
    gates: tuple[str, ...]
    attributes: dict[str, Any] = {}  # noqa: RUF012


OPERATORS = {
    "rnn_tanh": Operator("RNN", ("hidden",)),
    "rnn_relu": Operator("RNN", ("hidden",)),
    "gru": Operator("GRU", ("update", "reset", "candidate"), {"linear_before_reset": 1}),
    "gru_reset_before": Operator("GRU", ("update", "reset", "candidate")),
    "mgu": Operator("GRU", ("-gate", "gate", "candidate"), {"linear_before_reset": 1}),
    "mgu_reset_before": Operator("GRU", ("-gate", "gate", "candidate")),
    "lstm": Operator("LSTM", ("input", "output", "forget", "candidate")),
    "peephole_lstm": Operator("LSTM", ("input", "output", "forget", "candidate")),
    "coupled_lstm": Operator("LSTM", ("-forget", "output", "forget", "candidate")),
}
ACTIVATIONS = {"rnn_tanh": "Tanh", "rnn_relu": "Relu"}


class Steps(NamedTuple):
    """The lengths of the rows. Empty names stand for rows of full length.

    Attributes:
        lengths: `(B,)`, int32, as the recurrent operators of ONNX require.
        valid: `(T, B, 1)`, false at padding.
    """

    lengths: str = ""
    valid: str = ""


ALL_STEPS = Steps()


def add_steps(graph: Graph, inputs: str, lengths: str) -> Steps:
    """Add the steps of `inputs (T, B, ...)` with int64 `lengths (B,)`."""
    time = graph.node("Squeeze", graph.node("Shape", inputs, start=0, end=1))
    numbers = graph.node("Range", graph.constant(0), time, graph.constant(1))
    valid = graph.node("Less", graph.node("Unsqueeze", numbers, graph.constant([1])), lengths)
    valid = graph.node("Unsqueeze", valid, graph.constant([2]))
    return Steps(graph.node("Cast", lengths, to=graph.INT32), valid)


def add_recurrence(
    graph: Graph,
    layers: list[list[Direction]],
    inputs: str,
    steps: Steps = ALL_STEPS,
    *,
    initial: list[list[str]] | None = None,
    residual: bool = False,
) -> tuple[str, list[list[list[str]]]]:
    """Add all layers, for `inputs (T, B, I)`.

    Args:
        layers: the directions of each layer.
        initial: the parts of each layer's initial state, each `(1, B, H)`, for layers of one
            direction. Defaults to the initial states of `layers`.
        residual: add a layer's input to its output if their widths are equal. Then outputs past a
            length are undefined, otherwise zero.

    Returns:
        The outputs `(T, B, D*H)`, and the parts of the final state of each layer and direction,
        each `(1, B, H)`.
    """
    final = []
    for number, layer in enumerate(layers):
        start = None if initial is None else initial[number]
        outputs, states = _add_layer(graph, layer, inputs, steps, start)
        if residual and layer[0].input_size == sum(run.output_size for run in layer):
            outputs = graph.node("Add", outputs, inputs)
        inputs = outputs
        final.append(states)
    return inputs, final


def _add_layer(
    graph: Graph, layer: list[Direction], inputs: str, steps: Steps, start: list[str] | None
) -> tuple[str, list[list[str]]]:
    forms = {(run.kernel, run.hidden_size, run.weights.bias_ih is None) for run in layer}
    if len(forms) == 1 and all(map(_has_operator, layer)):
        return _add_operator(graph, layer, inputs, steps, start)
    results = []
    for run in layer:
        if _has_operator(run):
            outputs, (state,) = _add_operator(graph, [run], inputs, steps, start)
        else:
            axis = graph.constant([0])
            parts = [graph.node("Squeeze", part, axis) for part in start or ()]
            parts = parts or _initial_states(graph, run, inputs)
            outputs, parts = add_scan(graph, run, inputs, parts, steps.valid)
            state = [graph.node("Unsqueeze", part, axis) for part in parts]
        results.append((outputs, state))
    outputs = [outputs for outputs, _ in results]
    together = outputs[0] if len(outputs) == 1 else graph.node("Concat", *outputs, axis=-1)
    return together, [state for _, state in results]


def _has_operator(run: Direction) -> bool:
    """Return whether an ONNX operator computes the direction."""
    plain = not run.zone and run.drop is None and run.weights.weight_hr is None
    return plain and run.kernel.name in OPERATORS


def _add_operator(
    graph: Graph, layer: list[Direction], inputs: str, steps: Steps, start: list[str] | None
) -> tuple[str, list[list[str]]]:
    """Add the directions of a layer, of the same kernel and sizes, as one ONNX operator."""
    kernel = layer[0].kernel.name
    operator, gates = OPERATORS[kernel], EQUATIONS[kernel].gates

    def stack(part: Callable[[Direction], Tensor]) -> str:
        return graph.constant(torch.stack([part(run) for run in layer]))

    def reorder(weight: Tensor) -> Tensor:
        return _reorder_gates(operator, gates, weight)

    biased = layer[0].weights.bias_ih is not None
    arguments = [
        inputs,
        stack(lambda run: reorder(run.weights.weight_ih)),
        stack(lambda run: reorder(run.weights.weight_hh)),
        stack(lambda run: torch.cat([reorder(bias) for bias in run.weights[2:4]]))
        if biased
        else "",
        steps.lengths,
        *(start or _operator_states(graph, layer, inputs)),
    ]
    if kernel == "peephole_lstm":
        arguments.append(stack(lambda run: run.weights.parameters[[0, 2, 1]].flatten()))
    while not arguments[-1]:
        arguments.pop()
    attributes = dict(operator.attributes)
    if kernel in ACTIVATIONS:
        attributes["activations"] = [ACTIVATIONS[kernel]] * len(layer)
    outputs, *state = graph.nodes(
        1 + len(layer[0].start),
        operator.name,
        *arguments,
        hidden_size=layer[0].hidden_size,
        direction="bidirectional" if len(layer) > 1 else ("forward", "reverse")[layer[0].reverse],
        **attributes,
    )
    if len(layer) == 1:
        return graph.node("Squeeze", outputs, graph.constant([1])), [state]
    outputs = graph.node("Transpose", outputs, perm=[0, 2, 1, 3])  # (T, D, B, H) to (T, B, D, H)
    outputs = graph.node("Reshape", outputs, graph.constant([0, 0, -1]))
    rows = [graph.split(part, len(layer), axis=0) for part in state]
    return outputs, [list(parts) for parts in zip(*rows)]


def _reorder_gates(operator: Operator, names: tuple[str, ...], weight: Tensor) -> Tensor:
    """Reorder the gates of a weight or bias to the order of ONNX."""
    gates = dict(zip(names, weight.chunk(len(names))))
    gates |= {f"-{name}": -rows for name, rows in gates.items()}
    return torch.cat([gates[name] for name in operator.gates])


def _operator_states(graph: Graph, layer: list[Direction], inputs: str) -> list[str]:
    """Expand a learned initial state to `(D, B, H)`; omit an initial state of zeros."""
    if not any(part.any() for run in layer for part in run.start):
        return [""] * len(layer[0].start)
    one = graph.constant([1])
    shape = graph.node("Concat", one, _batch_size(graph, inputs), one, axis=0)
    starts = zip(*(run.start for run in layer))
    return [graph.node("Expand", graph.constant(torch.stack(part)), shape) for part in starts]


def _initial_states(graph: Graph, run: Direction, inputs: str) -> list[str]:
    """Expand the initial state to parts `(B, H)`."""
    shape = graph.node("Concat", _batch_size(graph, inputs), graph.constant([1]), axis=0)
    return [graph.node("Expand", graph.constant(part), shape) for part in run.start]


def _batch_size(graph: Graph, inputs: str) -> str:
    return graph.node("Shape", inputs, start=1, end=2)
