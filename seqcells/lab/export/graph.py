"""A builder for ONNX graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqcells import __version__
from seqcells.lab.extras import remedy
from seqcells.lab.files import write_atomically

try:
    from onnx import GraphProto, ModelProto, TensorProto, checker, helper, numpy_helper
except ModuleNotFoundError as error:
    raise ImportError(remedy(error) or str(error)) from error

OPSET = 18
TYPES = {
    torch.float32: TensorProto.FLOAT,
    torch.int64: TensorProto.INT64,
    torch.bool: TensorProto.BOOL,
}


class Graph:
    """Collects inputs, nodes, constants and outputs. Values are names; "" is an omitted input."""

    INT32, FLOAT = TensorProto.INT32, TensorProto.FLOAT  # target types of Cast nodes

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._bodies = 0
        self._inputs, self._outputs, self._nodes, self._constants = [], [], [], []

    def body(self) -> Graph:
        """Return the graph of a loop's body, whose names do not occur in this graph."""
        self._bodies += 1
        return Graph(f"{self._prefix}body_{self._bodies}_")

    def input(
        self, name: str, dtype: torch.dtype, shape: list[str | int], meaning: str = ""
    ) -> str:
        """Add a graph input; dynamic sizes in `shape` are strings."""
        name = self._prefix + name
        self._inputs.append(helper.make_tensor_value_info(name, TYPES[dtype], shape, meaning))
        return name

    def constant(self, value: Tensor | list[int] | int | float) -> str:
        """Add a constant; int becomes int64 and float becomes float32."""
        dtype = torch.float32 if isinstance(value, float) else None
        array = torch.as_tensor(value, dtype=dtype).detach().cpu().numpy()
        name = f"{self._prefix}constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output and return the output."""
        (value,) = self.nodes(1, operator, *inputs, **attributes)
        return value

    def nodes(self, count: int, operator: str, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with `count` outputs and return the outputs."""
        name = f"{self._prefix}{operator.lower()}_{len(self._nodes)}"
        values = [name, *(f"{name}_{number}" for number in range(1, count))]
        self._nodes.append(helper.make_node(operator, inputs, values, name, **attributes))
        return values

    def split(self, value: str, count: int, axis: int) -> list[str]:
        """Split a value into parts of equal size; one part is the value itself."""
        if count == 1:
            return [value]
        return self.nodes(count, "Split", value, axis=axis, num_outputs=count)

    def output(
        self,
        value: str,
        name: str,
        shape: list[str | int],
        meaning: str = "",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Add a graph output with the value of another name."""
        name = self._prefix + name
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, TYPES[dtype], shape, meaning))

    def proto(self, name: str) -> GraphProto:
        """Return the graph without validation."""
        return helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, initializer=self._constants
        )

    def model(self, name: str) -> ModelProto:
        """Return the graph as a validated model."""
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(
            self.proto(name),
            producer_name="seqcells",
            producer_version=__version__,
            opset_imports=[opset],
            ir_version=helper.find_min_ir_version_for([opset]),
        )
        checker.check_model(model, full_check=True)
        return model


def add_metadata(model: ModelProto, description: dict[str, str]) -> None:
    """Add entries to a model's metadata."""
    properties = {entry.key: entry.value for entry in model.metadata_props}
    helper.set_model_props(model, properties | description)


def write(model: ModelProto, description: dict[str, str], path: Path) -> None:
    """Save a model, with `description` added to its metadata."""
    add_metadata(model, description)
    write_atomically(path, lambda file: file.write(model.SerializeToString()))
