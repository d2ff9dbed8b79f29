"""Stateful ONNX export of recurrent modules, for sequences that arrive in chunks."""

from __future__ import annotations

import json

import torch
from torch import Tensor, nn

from seqcells.equations.program import MOST_PARTS
from seqcells.lab.export.directions import LAYERS, Direction, directions_by_layer
from seqcells.lab.export.graph import Graph, ModelProto, add_metadata
from seqcells.lab.export.parts import check_module, refuse_quantized
from seqcells.lab.export.recurrence import add_recurrence

# The names of the parts of a state, without the step: `h` gives `h_0` and `h_n`.
PARTS = ("h", "c", *(f"state{part}" for part in range(2, MOST_PARTS)))


def to_stateful_onnx(module: nn.Module) -> ModelProto:
    """Convert a recurrent module in evaluation mode to a model with its state as inputs.

    The first input is `inputs (time, batch, I)`, float32, the first output
    `outputs (time, batch, H)`. With `batch_first`, both start with the batch dimension. The other
    inputs are the tensors of the state before the first step, the other outputs those after the
    last step, in the same order and shapes. Pass the outputs of a call to the next call::

        outputs, *parts = session.run(None, {"inputs": chunk, **state})
        state = dict(zip(state, parts))  # the same names, with new values

    The tensors have the shapes of the module's own final state, so states move between PyTorch and
    the exported model unchanged:

    - `RNN`, `GRU` and `LSTM`, of any number of layers L: `h_0 (L, batch, H)` and for an LSTM `c_0`,
      as in torch: one or two tensors at any depth.
    - A cell, with or without modifiers, or a `Recurrent`: `h_0 (batch, H)`, and `c_0` if the state
      has two tensors. Further tensors, up to eight, are `state2_0`, `state3_0` and so on: the
      normalizer and the stabilizer of an `SLSTMCell`.
    - A `Stack`: `h_0_layer0 (batch, H)`, `c_0_layer0`, `h_0_layer1` and so on, because its layers
      may differ in size; without suffix if there is one layer.

    The outputs are named `h_n`, `c_n`, `state2_n` and `h_n_layer0` accordingly. A sequence starts
    from zeros, except for tensors in the metadata under the key `initial_state`: JSON that maps the
    name of an input to the values for a batch of one, such as a learned initial state.

    `time` and `batch` are at least 1 and may differ between calls.

    Args:
        module: a `GatedCell`, built in or user-defined, with or without modifiers, a forward
            `Recurrent`, a `Stack` of these, or an RNN, GRU or LSTM of seqcells or torch.nn.

    Raises:
        TypeError: another module.
        ValueError: the module runs backward, is in training mode, not in float32 or quantized, or
            has cells that are not gated cells or whose equations cannot be recorded.
    """
    if isinstance(module, nn.Module):
        check_module(module)
        refuse_quantized(module)
    layers = forward_layers(module)
    graph = Graph()
    batch_first = getattr(module, "batch_first", False)
    shape: list[str | int] = ["batch", "time"] if batch_first else ["time", "batch"]
    inputs = graph.input("inputs", torch.float32, [*shape, layers[0].input_size])
    if batch_first:
        inputs = graph.node("Transpose", inputs, perm=[1, 0, 2])
    state = State(graph)
    outputs = add_layers(state, module, layers, inputs)[0]
    if batch_first:
        outputs = graph.node("Transpose", outputs, perm=[1, 0, 2])
    graph.output(outputs, "outputs", [*shape, layers[-1].output_size])
    return state.model(type(module).__name__)


class State:
    """The tensors of the state: inputs such as `h_0`, outputs such as `h_n`, in the same order."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._tensors: dict[str, tuple[list[str | int], torch.dtype]] = {}
        self._results: dict[str, str] = {}
        self._initial: dict[str, list] = {}

    def read(
        self,
        name: str,
        shape: list[str | int],
        dtype: torch.dtype = torch.float32,
        initial: Tensor | None = None,
    ) -> str:
        """Add an input for a tensor of the state, which starts from zeros or `initial`."""
        self._tensors[name] = shape, dtype
        if initial is not None and initial.any():
            self._initial[_numbered(name, "0")] = initial.tolist()
        return self.graph.input(_numbered(name, "0"), dtype, shape, "state before the first step")

    def write(self, name: str, value: str) -> None:
        """Set the value of a tensor after the last step."""
        self._results[name] = value

    def model(self, name: str) -> ModelProto:
        """Add the outputs and return the model."""
        for tensor, (shape, dtype) in self._tensors.items():
            meaning = "state after the last step"
            output = _numbered(tensor, "n")
            self.graph.output(self._results[tensor], output, shape, meaning, dtype)
        model = self.graph.model(name)
        if self._initial:
            add_metadata(model, {"initial_state": json.dumps(self._initial)})
        return model


def _numbered(name: str, step: str) -> str:
    """Return the name of a tensor before or after the steps: `h_layer1` gives `h_0_layer1`."""
    part, *layer = name.split("_")
    return "_".join([part, step, *layer])


def forward_layers(module: nn.Module) -> list[Direction]:
    """Return the layers of a module that runs forward only.

    Raises:
        TypeError: `module` is no recurrent module.
        ValueError: it has a backward direction, or a cell that cannot be exported.
    """
    layers = directions_by_layer(module)
    if any(len(runs) > 1 or runs[0].reverse for runs in layers):
        raise ValueError(
            f"expected layers that run forward, got {type(module).__name__} with a backward "
            "direction, which needs the whole sequence; use a unidirectional module, or export "
            "whole sequences with classifier_to_onnx or layers_to_onnx"
        )
    return [run for (run,) in layers]


def add_layers(
    state: State, module: nn.Module, layers: list[Direction], inputs: str
) -> tuple[str, list[str]]:
    """Add the recurrence and its state.

    Returns:
        The outputs `(T, B, H)`, and the parts of the last layer's final state, each `(1, B, H)`.
    """
    read = _read_stacked if type(module) in LAYERS else _read_separate
    initial = read(state, layers)
    residual = getattr(module, "residual", False)
    single = [[layer] for layer in layers]
    outputs, final = add_recurrence(state.graph, single, inputs, initial=initial, residual=residual)
    parts = [states for (states,) in final]
    write = _write_stacked if type(module) in LAYERS else _write_separate
    write(state, parts)
    return outputs, parts[-1]


def _read_stacked(state: State, layers: list[Direction]) -> list[list[str]]:
    """Add one input per part, `(L, batch, H)`; return the parts of each layer, `(1, B, H)`."""
    parts = []
    for name, start in zip(PARTS, layers[0].start):
        value = state.read(name, [len(layers), "batch", start.shape[1]])
        parts.append(state.graph.split(value, len(layers), axis=0))
    return [list(layer) for layer in zip(*parts)]


def _write_stacked(state: State, final: list[list[str]]) -> None:
    for name, parts in zip(PARTS, zip(*final)):
        together = state.graph.node("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]
        state.write(name, together)


def _names(number: int, count: int) -> list[str]:
    """Return the names of all possible parts of a layer's state."""
    suffix = f"_layer{number}" if count > 1 else ""
    return [f"{part}{suffix}" for part in PARTS]


def _read_separate(state: State, layers: list[Direction]) -> list[list[str]]:
    """Add one input per layer and part, `(batch, H)`; return each as `(1, B, H)`."""
    graph, initial = state.graph, []
    for number, layer in enumerate(layers):
        parts = []
        for name, start in zip(_names(number, len(layers)), layer.start):
            value = state.read(name, ["batch", start.shape[1]], initial=start)
            parts.append(graph.node("Unsqueeze", value, graph.constant([0])))
        initial.append(parts)
    return initial


def _write_separate(state: State, final: list[list[str]]) -> None:
    graph = state.graph
    for number, parts in enumerate(final):
        for name, part in zip(_names(number, len(final)), parts):
            state.write(name, graph.node("Squeeze", part, graph.constant([0])))
