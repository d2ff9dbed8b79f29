"""Recurrences as ONNX's own LSTM, GRU and RNN."""

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


class Known(NamedTuple):
    """Which operator has a cell's equations: its gates in ONNX's order, by the cell's names.

    A gate with a minus is one less the gate of that name: `1 - sigma(z) = sigma(-z)`.
    """

    operator: str
    gates: tuple[str, ...]
    attributes: dict[str, Any] = {}  # noqa: RUF012


KNOWN = {
    "rnn_tanh": Known("RNN", ("hidden",)),
    "rnn_relu": Known("RNN", ("hidden",)),
    "gru": Known("GRU", ("update", "reset", "candidate"), {"linear_before_reset": 1}),
    "gru_reset_before": Known("GRU", ("update", "reset", "candidate")),
    "mgu": Known("GRU", ("-gate", "gate", "candidate"), {"linear_before_reset": 1}),
    "mgu_reset_before": Known("GRU", ("-gate", "gate", "candidate")),
    "lstm": Known("LSTM", ("input", "output", "forget", "candidate")),
    "peephole_lstm": Known("LSTM", ("input", "output", "forget", "candidate")),
    "coupled_lstm": Known("LSTM", ("-forget", "output", "forget", "candidate")),
}
ACTIVATIONS = {"rnn_tanh": "Tanh", "rnn_relu": "Relu"}
LAYERS = (seqcells.RNN, seqcells.GRU, seqcells.LSTM, nn.RNN, nn.GRU, nn.LSTM)


class Direction(NamedTuple):
    """A cell that runs over time: its equations and weights, and from which state on.

    The parts of that state are `(1, H)`; without any it is zero.
    """

    cell: GatedCell
    weights: Weights
    start: list[Tensor]

    @property
    def biased(self) -> bool:
        return self.weights.bias_ih is not None


def layers_of(recurrent: nn.Module) -> list[list[Direction]]:
    """Each layer's one direction, or two of them: forward, backward.

    Raises:
        ValueError: a module, cell or modifier that ONNX has no operator for.
    """
    if type(recurrent) in LAYERS:
        return _of_layers(recurrent)
    if isinstance(recurrent, seqcells.Stack) and not recurrent.residual:
        entries = [[run] if isinstance(run, Recurrent) else run for run in recurrent.layers]
        return [[_of_cell(run) for run in runs] for runs in entries]
    residual = " with residual connections" if isinstance(recurrent, seqcells.Stack) else ""
    raise _refusal(f"{type(recurrent).__name__}{residual}")


def _refusal(got: str) -> ValueError:
    return ValueError(
        "expected what ONNX has operators for: RNN, GRU, MGU, LSTM with or without peepholes or "
        "coupled gates, each with dropout or a learned initial state at most; "
        f"got {got}; torch-export and safetensors take every cell"
    )


def _of_layers(layers: nn.RNNBase) -> list[list[Direction]]:
    if layers.proj_size:
        raise _refusal(f"{type(layers).__name__} with proj_size={layers.proj_size}")
    cell = EQUATIONS[layers.mode.lower()]
    count = 2 if layers.bidirectional else 1
    found = [Direction(cell, Weights(*weights), []) for weights in layers.all_weights]
    return [found[first : first + count] for first in range(0, len(found), count)]


def _of_cell(run: Recurrent) -> Direction:
    cell, name = innermost(run.cell), " ".join(str(run.cell).split())
    if not is_fusible(run.cell):
        raise _refusal(f"{name}, a cell with a forward or a hook of its own")
    if cell.built_in_kernel() not in KNOWN or getattr(cell, "proj_size", 0):
        raise _refusal(name)
    state = run.cell.initial_state(1)
    if any(part is not None for part in resolve_noise(run.cell, None, state, 1) or ()):
        raise _refusal(f"{name}, which modifies its steps in evaluation too")
    return Direction(cell, run.cell.weights(), flat_state(state))


def add_recurrence(
    graph: Graph, recurrent: nn.Module, inputs: str, lengths: str
) -> tuple[str, list[list[str]]]:
    """Add all layers: `inputs (T, B, I)` and int32 `lengths (B,)`.

    Returns the outputs `(T, B, D*H)`, and each layer's final state, its parts `(D, B, H)`.

    Raises:
        ValueError: a module, cell or modifier that ONNX has no operator for.
    """
    final = []
    for layer in layers_of(recurrent):
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
        raise _refusal(f"directions that differ in one layer: {names}")
    ((kernel, hidden_size, biased),) = forms
    known = KNOWN[kernel]

    def stacked(part: Callable[[Direction], Tensor]) -> str:
        return graph.constant(torch.stack([part(run) for run in layer]))

    arguments = [
        inputs,
        stacked(lambda run: _in_order(known, run.cell, run.weights.weight_ih)),
        stacked(lambda run: _in_order(known, run.cell, run.weights.weight_hh)),
        stacked(lambda run: _biases(known, run)) if biased else "",
        lengths,
        *_first_states(graph, layer, lengths, 2 if known.operator == "LSTM" else 1),
    ]
    if kernel == "peephole_lstm":
        arguments.append(stacked(lambda run: _peepholes(run.cell)))
    while not arguments[-1]:
        arguments.pop()
    attributes = dict(known.attributes)
    if kernel in ACTIVATIONS:
        attributes["activations"] = [ACTIVATIONS[kernel]] * len(layer)
    outputs, *state = graph.nodes(
        3 if known.operator == "LSTM" else 2,
        known.operator,
        *arguments,
        hidden_size=hidden_size,
        direction="bidirectional" if len(layer) > 1 else "forward",
        **attributes,
    )
    outputs = graph.node("Transpose", outputs, perm=[0, 2, 1, 3])  # (T, D, B, H) to (T, B, D, H)
    return graph.node("Reshape", outputs, graph.constant([0, 0, -1])), state


def _in_order(known: Known, cell: GatedCell, weight: Tensor) -> Tensor:
    """A weight's rows, or a bias, gate by gate as ONNX has them."""
    gates = dict(zip(cell.gates, weight.chunk(len(cell.gates))))
    gates |= {f"-{name}": -rows for name, rows in gates.items()}
    return torch.cat([gates[name] for name in known.gates])


def _biases(known: Known, run: Direction) -> Tensor:
    biases = run.weights.bias_ih, run.weights.bias_hh
    return torch.cat([_in_order(known, run.cell, bias) for bias in biases])


def _peepholes(cell: GatedCell) -> Tensor:
    to_input, to_forget, to_output = cell.weight_peephole.chunk(3)
    return torch.cat([to_input, to_output, to_forget])


def _first_states(graph: Graph, layer: list[Direction], lengths: str, parts: int) -> list[str]:
    """The learned initial state of every row `(D, B, H)`, or nothing for zeros."""
    if not any(part.any() for run in layer for part in run.start):
        return [""] * parts
    one = graph.constant([1])
    shape = graph.node("Concat", one, graph.node("Shape", lengths), one, axis=0)
    starts = zip(*(run.start for run in layer))
    return [graph.node("Expand", graph.constant(torch.stack(part)), shape) for part in starts]
