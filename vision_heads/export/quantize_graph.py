"""An ONNX graph as quantization needs it: who makes and reads a tensor, layers, and the float end.

A *layer* is a convolution with the activation behind it, named after the convolution. The *end*
is everything from the last convolution of each branch on: it stays in float.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import require
from vision_heads.export.onnx_file import load_model
from vision_heads.spec import METADATA_KEY

QUANTIZED = ("Conv", "Sigmoid", "Mul", "Add", "Relu", "Clip", "Concat", "Resize", "MaxPool")
"""Operators of the network that have an INT8 kernel in ONNX Runtime."""
_FLOAT = 1
"""TensorProto.FLOAT"""


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution and its activation.

    Attributes:
        name: of the convolution's node.
        kind: "depthwise", or the kernel's size such as "3x3".
        nodes: names of its nodes, in order.
        inputs: the tensors that it reads, without weights.
        output: the tensor that it makes, behind the activation.
    """

    name: str
    kind: str
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    output: str


class OnnxGraph:
    """A model with an index of its graph; call `reindex` after changing nodes.

    Args:
        model: ONNX model, FP32.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.reindex()

    def reindex(self) -> None:
        """Read the graph anew."""
        graph = self.model.graph
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.nodes = {node.name: node for node in graph.node}
        self.producers = {name: node for node in graph.node for name in node.output}
        self.consumers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self.consumers.setdefault(name, []).append(node)

    def shapes(self) -> dict[str, list[int]]:
        """Return the shape of every tensor, 0 where a size is open."""
        from onnx import shape_inference  # noqa: PLC0415

        graph = shape_inference.infer_shapes(self.model).graph
        return {
            value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
            for value in (*graph.input, *graph.value_info, *graph.output)
        }

    def constant(self, name: str) -> NDArray[Any]:
        """Return a constant's values."""
        from onnx import numpy_helper  # noqa: PLC0415

        values: NDArray[Any] = numpy_helper.to_array(self.constants[name])
        return values

    def add_constant(self, name: str, values: NDArray[Any]) -> str:
        """Add a constant and return its name."""
        from onnx import numpy_helper  # noqa: PLC0415

        tensor = numpy_helper.from_array(np.ascontiguousarray(values), name)
        self.model.graph.initializer.append(tensor)
        self.constants[name] = tensor
        return name

    def replace(self, old: Sequence[Any], new: Iterable[Any], at: Any) -> None:
        """Put nodes where node `at` is, and take out the old ones."""
        nodes = self.model.graph.node
        place = list(nodes).index(at)
        for offset, node in enumerate(new):
            nodes.insert(place + offset, node)
        for node in old:
            nodes.remove(node)

    def rewire(self, old: str, new: str) -> None:
        """Let everybody who reads tensor `old` read `new`."""
        for node in self.model.graph.node:
            for place, name in enumerate(node.input):
                if name == old:
                    node.input[place] = new

    def drop_unused(self) -> None:
        """Take out nodes and constants that no output needs."""
        graph = self.model.graph
        needed = {output.name for output in graph.output}
        for node in reversed(list(graph.node)):
            if needed.intersection(node.output):
                needed.update(node.input)
            else:
                graph.node.remove(node)
        kept = [tensor for tensor in graph.initializer if tensor.name in needed]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        self.reindex()

    def end(self) -> set[str]:
        """Return the names of the nodes that stay in float: decoding, and the last convolutions."""
        found: set[str] = set()
        waiting = [output.name for output in self.model.graph.output]
        while waiting:
            node = self.producers.get(waiting.pop())
            if node is None or node.name in found:
                continue
            found.add(node.name)
            if node.op_type != "Conv":
                waiting.extend(node.input)
        return found

    def layers(self) -> list[Layer]:
        """Return the layers that can be quantized, in the graph's order."""
        end = self.end()
        return [
            self._layer(node)
            for node in self.model.graph.node
            if node.op_type == "Conv" and node.name not in end
        ]

    def _layer(self, convolution: Any) -> Layer:
        nodes = [convolution]
        inputs = [convolution.input[0]]
        # SiLU is Sigmoid and Mul; others are one node.
        for node in self.consumers.get(convolution.output[0], []):
            if node.op_type in ("Sigmoid", "HardSwish", "Relu", "Clip"):
                nodes.append(node)
        if len(nodes) == 2 and nodes[1].op_type == "Sigmoid":
            nodes += [
                node
                for node in self.consumers[nodes[1].output[0]]
                if node.op_type == "Mul" and convolution.output[0] in node.input
            ]
        weight = self.constants[convolution.input[1]].dims
        kind = "depthwise" if weight[1] == 1 else "x".join(str(size) for size in weight[2:])
        return Layer(
            convolution.name, kind, tuple(node.name for node in nodes), tuple(inputs),
            nodes[-1].output[0],
        )  # fmt: skip


def attribute(node: Any, name: str, default: Any = None) -> Any:
    """Return a node's attribute."""
    from onnx import helper  # noqa: PLC0415

    for entry in node.attribute:
        if entry.name == name:
            return helper.get_attribute_value(entry)
    return default


def open_float(source: Path) -> OnnxGraph:
    """Read an FP32 ONNX file that is to be quantized.

    Raises:
        UserError: missing, damaged, no file of `vh export`, or not FP32; onnx is not installed.
    """
    model = load_model(source)
    metadata = {entry.key for entry in model.metadata_props}
    require(METADATA_KEY in metadata, f"{source}: carries no model description; use vh export")
    graph = OnnxGraph(model)
    kinds = {node.op_type for node in model.graph.node}
    require(
        not kinds & {"QuantizeLinear", "DequantizeLinear", "QLinearConv"},
        f"{source}: is quantized already; INT8 starts from the FP32 file",
    )
    halves = [node for node in model.graph.node if node.op_type == "Conv"]
    require(halves, f"{source}: has no convolution to quantize")
    require(
        all(graph.constants[n.input[1]].data_type == _FLOAT for n in halves),
        f"{source}: is not FP32; INT8 starts from the FP32 file",
    )
    return graph
