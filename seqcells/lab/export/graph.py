"""A builder for ONNX graphs."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqcells import __version__
from seqcells.lab.extras import remedy
from seqcells.lab.files import write_atomically

try:
    from onnx import ModelProto, TensorProto, checker, helper, numpy_helper
except ModuleNotFoundError as error:
    raise ImportError(remedy(error) or str(error)) from error

OPSET = 18
TYPES = {torch.float32: TensorProto.FLOAT, torch.int64: TensorProto.INT64}


class Graph:
    """Collects inputs, nodes, constants and outputs. Values are names; "" is an omitted input."""

    INT32, FLOAT = TensorProto.INT32, TensorProto.FLOAT  # target types of Cast nodes

    def __init__(self) -> None:
        self._inputs, self._outputs, self._nodes, self._constants = [], [], [], []

    def input(self, name: str, dtype: torch.dtype, shape: list[str | int], meaning: str) -> str:
        """Add a graph input; dynamic sizes in `shape` are strings."""
        self._inputs.append(helper.make_tensor_value_info(name, TYPES[dtype], shape, meaning))
        return name

    def constant(self, value: Tensor | list[int] | int | float) -> str:
        """Add a constant; int becomes int64 and float becomes float32."""
        dtype = torch.float32 if isinstance(value, float) else None
        array = torch.as_tensor(value, dtype=dtype).detach().cpu().numpy()
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output and return the output."""
        (value,) = self.nodes(1, operator, *inputs, **attributes)
        return value

    def nodes(self, count: int, operator: str, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with `count` outputs and return the outputs."""
        name = f"{operator.lower()}_{len(self._nodes)}"
        values = [name, *(f"{name}_{number}" for number in range(1, count))]
        self._nodes.append(helper.make_node(operator, inputs, values, name, **attributes))
        return values

    def output(self, value: str, name: str, shape: list[str | int], meaning: str) -> None:
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, self.FLOAT, shape, meaning))

    def model(self, name: str) -> ModelProto:
        """Return the graph as a validated model."""
        graph = helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, initializer=self._constants
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(
            graph,
            producer_name="seqcells",
            producer_version=__version__,
            opset_imports=[opset],
            ir_version=helper.find_min_ir_version_for([opset]),
        )
        checker.check_model(model, full_check=True)
        return model


def write(model: ModelProto, description: dict[str, str], path: Path) -> None:
    """Save a model with `description` in its metadata."""
    helper.set_model_props(model, description)
    write_atomically(path, lambda file: file.write(model.SerializeToString()))
