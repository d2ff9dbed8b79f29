"""Convert recurrences to the RNN, GRU and LSTM operators of ONNX."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import seqcells
from seqcells.cells.base import GatedCell, Weights
from seqcells.cells.table import EQUATIONS
from seqcells.lab.export.graph import Graph
from seqcells.modifiers.base import innermost, resolve_noise
from seqcells.recurrent import Recurrent, is_fusible
from seqcells.state import flat_state


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
LAYERS = (seqcells.RNN, seqcells.GRU, seqcells.LSTM, nn.RNN, nn.GRU, nn.LSTM)


class Direction(NamedTuple):
    """One direction of a layer: cell, weights and the parts of its initial state, each `(1, H)`.

    Without parts the initial state is zero.
    """

    cell: GatedCell
    weights: Weights
    start: list[Tensor]

    @property
    def biased(self) -> bool:
        return self.weights.bias_ih is not None


def directions_by_layer(recurrent: nn.Module) -> list[list[Direction]]:
    """Return the directions of each layer: forward and, if bidirectional, backward.

    Raises:
        ValueError: a module, cell or modifier has no ONNX operator.
    """
    if type(recurrent) in LAYERS:
        return _directions_of_layers(recurrent)
    if isinstance(recurrent, seqcells.Stack) and not recurrent.residual:
        entries = [[run] if isinstance(run, Recurrent) else run for run in recurrent.layers]
        return [[_direction_of_recurrent(run) for run in runs] for runs in entries]
    residual = " with residual connections" if isinstance(recurrent, seqcells.Stack) else ""
    raise _unsupported(f"{type(recurrent).__name__}{residual}")


def _unsupported(got: str) -> ValueError:
    return ValueError(
        "expected a recurrence with an ONNX operator (RNN, GRU, MGU, or LSTM, also with peepholes "
        "or coupled gates; with dropout or a learned initial state as only modifiers), "
        f"got {got}; use torch-export or safetensors, which support every cell"
    )


def _directions_of_layers(layers: nn.RNNBase) -> list[list[Direction]]:
    if layers.proj_size:
        raise _unsupported(f"{type(layers).__name__} with proj_size={layers.proj_size}")
    cell = EQUATIONS[layers.mode.lower()]
    count = 2 if layers.bidirectional else 1
    directions = [Direction(cell, Weights(*weights), []) for weights in layers.all_weights]
    return [directions[n : n + count] for n in range(0, len(directions), count)]


def _direction_of_recurrent(run: Recurrent) -> Direction:
    cell, name = innermost(run.cell), " ".join(str(run.cell).split())
    if not is_fusible(run.cell):
        raise _unsupported(f"{name}, which overrides forward or has hooks")
    if cell.built_in_kernel() not in OPERATORS or getattr(cell, "proj_size", 0):
        raise _unsupported(name)
    state = run.cell.initial_state(1)
    if any(part is not None for part in resolve_noise(run.cell, None, state, 1) or ()):
        raise _unsupported(f"{name}, which modifies steps in evaluation mode")
    return Direction(cell, run.cell.weights(), flat_state(state))


def add_recurrence(
    graph: Graph, recurrent: nn.Module, inputs: str, lengths: str
) -> tuple[str, list[list[str]]]:
    """Add all layers, for `inputs (T, B, I)` and int32 `lengths (B,)`.

    Returns:
        The outputs `(T, B, D*H)` and the final state of each layer, with parts `(D, B, H)`.

    Raises:
        ValueError: a module, cell or modifier has no ONNX operator.
    """
    final = []
    for layer in directions_by_layer(recurrent):
        inputs, state = _add_layer(graph, layer, inputs, lengths)
        final.append(state)
    return inputs, final


def _add_layer(
    graph: Graph, layer: list[Direction], inputs: str, lengths: str
) -> tuple[str, list[str]]:
    forms = {
        (run.cell.built_in_kernel(), run.weights.weight_hh.shape[1], run.biased) for run in layer
    }
    if len(forms) > 1:
        names = " and ".join(str(run.cell) for run in layer)
        raise _unsupported(f"different directions in one layer: {names}")
    ((kernel, hidden_size, biased),) = forms
    operator = OPERATORS[kernel]

    def stack(part: Callable[[Direction], Tensor]) -> str:
        return graph.constant(torch.stack([part(run) for run in layer]))

    arguments = [
        inputs,
        stack(lambda run: _reorder_gates(operator, run.cell, run.weights.weight_ih)),
        stack(lambda run: _reorder_gates(operator, run.cell, run.weights.weight_hh)),
        stack(lambda run: _biases(operator, run)) if biased else "",
        lengths,
        *_initial_states(graph, layer, lengths, 2 if operator.name == "LSTM" else 1),
    ]
    if kernel == "peephole_lstm":
        arguments.append(stack(lambda run: _peepholes(run.cell)))
    while not arguments[-1]:
        arguments.pop()
    attributes = dict(operator.attributes)
    if kernel in ACTIVATIONS:
        attributes["activations"] = [ACTIVATIONS[kernel]] * len(layer)
    outputs, *state = graph.nodes(
        3 if operator.name == "LSTM" else 2,
        operator.name,
        *arguments,
        hidden_size=hidden_size,
        direction="bidirectional" if len(layer) > 1 else "forward",
        **attributes,
    )
    outputs = graph.node("Transpose", outputs, perm=[0, 2, 1, 3])  # (T, D, B, H) to (T, B, D, H)
    return graph.node("Reshape", outputs, graph.constant([0, 0, -1])), state


def _reorder_gates(operator: Operator, cell: GatedCell, weight: Tensor) -> Tensor:
    """Reorder the gates of a weight or bias to the order of ONNX."""
    gates = dict(zip(cell.gates, weight.chunk(len(cell.gates))))
    gates |= {f"-{name}": -rows for name, rows in gates.items()}
    return torch.cat([gates[name] for name in operator.gates])


def _biases(operator: Operator, run: Direction) -> Tensor:
    biases = run.weights.bias_ih, run.weights.bias_hh
    return torch.cat([_reorder_gates(operator, run.cell, bias) for bias in biases])


def _peepholes(cell: GatedCell) -> Tensor:
    to_input, to_forget, to_output = cell.weight_peephole.chunk(3)
    return torch.cat([to_input, to_output, to_forget])


def _initial_states(graph: Graph, layer: list[Direction], lengths: str, parts: int) -> list[str]:
    """Expand a learned initial state to `(D, B, H)`; omit an initial state of zeros."""
    if not any(part.any() for run in layer for part in run.start):
        return [""] * parts
    one = graph.constant([1])
    shape = graph.node("Concat", one, graph.node("Shape", lengths), one, axis=0)
    starts = zip(*(run.start for run in layer))
    return [graph.node("Expand", graph.constant(torch.stack(part)), shape) for part in starts]
