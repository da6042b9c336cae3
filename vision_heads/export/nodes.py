"""An ONNX graph's nodes, constants and element types, read without the onnx package.

On the device where a TensorRT engine is built there is the core install and nothing else. What is
read here is enough to say which operators a graph uses, on which types, and where its heads end.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vision_heads.errors import UserError, require
from vision_heads.runtime import wire

# Field numbers of onnx.proto3.
_MODEL_GRAPH, _MODEL_OPSETS = 7, 8
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 5, 11, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = (
    1,
    2,
    3,
    4,
    5,
    7,
)
_NODE_TEXTS = (_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OPERATOR, _NODE_DOMAIN)
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_TEXT, _ATTRIBUTE_TENSOR, _ATTRIBUTE_INTS = 1, 3, 4, 5, 8
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_INT32, _TENSOR_INT64, _TENSOR_NAME, _TENSOR_RAW = (
    1,
    2,
    5,
    7,
    8,
    9,
)
_VALUE_NAME, _VALUE_TYPE, _TYPE_TENSOR, _ELEMENT, _SHAPE = 1, 2, 1, 1, 2
_SHAPE_DIM, _DIM_VALUE, _DIM_NAME = 1, 1, 2

TYPES = {
    1: "FLOAT",
    2: "UINT8",
    3: "INT8",
    4: "UINT16",
    5: "INT16",
    6: "INT32",
    7: "INT64",
    8: "STRING",
    9: "BOOL",
    10: "FLOAT16",
    11: "DOUBLE",
    12: "UINT32",
    13: "UINT64",
    16: "BFLOAT16",
    17: "FLOAT8E4M3FN",
    21: "UINT4",
    22: "INT4",
    23: "FLOAT4E2M1",
}
"""Names of TensorProto's element types, as ONNX writes them."""

_WHOLE = {"INT32": "i", "INT64": "q", "INT8": "b", "UINT8": "B"}
"""Types whose constants are kept as numbers, with their `struct` letter."""
_MOST_KEPT = 64
"""Longest constant whose numbers are kept: sizes, axes, zero points."""


@dataclass(frozen=True, slots=True)
class Constant:
    """An initializer.

    Attributes:
        type: element type, e.g. "FLOAT".
        dims: its shape.
        numbers: its content, of whole numbers and no more than 64 of them; else empty.
    """

    type: str
    dims: tuple[int, ...]
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """One node.

    Attributes:
        name, operator, domain: as in the file; the standard domain is "".
        inputs, outputs: tensor names, "" where an optional one is left out.
        attributes: those that are whole numbers, lists of these, texts, or tensors.
    """

    name: str
    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, int | str | tuple[int, ...] | Constant]


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph.

    Attributes:
        opset: version of the standard operators.
        nodes: in an order they can run in.
        constants: initializers by name.
        inputs: element type and shape by name; -1 where a size is open.
        outputs: names.
    """

    opset: int
    nodes: tuple[Node, ...]
    constants: Mapping[str, Constant]
    inputs: Mapping[str, tuple[str, tuple[int, ...]]]
    outputs: tuple[str, ...]


def read_graph(path: str | Path) -> Graph:
    """Read an ONNX file's graph.

    Raises:
        UserError: missing, damaged, or no ONNX file.
    """
    path = Path(path)
    require(path.is_file(), f"{path}: no such file")
    try:
        model = memoryview(path.read_bytes())
        graphs = list(wire.messages(model, _MODEL_GRAPH))
        if not graphs:
            raise ValueError("it has no graph")
        return _graph(model, graphs[0])
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: not a readable ONNX file ({error})") from error


def element_types(graph: Graph) -> dict[str, str]:
    """Return the element type of every tensor that can be told, by name.

    Most operators give what they are given; those that do not are listed here.
    """
    types = {name: kind for name, (kind, _) in graph.inputs.items()}
    types |= {name: constant.type for name, constant in graph.constants.items()}
    for node in graph.nodes:
        given = [types.get(name, "") for name in node.inputs]
        for place, output in enumerate(node.outputs):
            if output:
                types[output] = _given_type(node, given, place)
    return {name: kind for name, kind in types.items() if kind}


def decode_nodes(graph: Graph) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the nodes behind the last convolutions, and of these convolutions.

    Behind them a picture's boxes are chosen and decoded: exp, softmax, coordinates. That stays in
    FP32 whatever the rest runs in, and the last convolutions stay out of INT8.
    """
    reaches: set[str] = set()  # tensors that some convolution further on depends on
    tail, last = set(), set()
    for node in reversed(graph.nodes):
        leads_on = any(output in reaches for output in node.outputs)
        if node.operator == "Conv" and not leads_on:
            last.add(node.name)
        if node.operator == "Conv" or leads_on:
            reaches.update(node.inputs)
        else:
            tail.add(node.name)
    return frozenset(tail - {""}), frozenset(last - {""})


_ALWAYS = {
    **dict.fromkeys(("Shape", "Size", "NonZero", "NonMaxSuppression", "ArgMax", "ArgMin"), "INT64"),
    **dict.fromkeys(
        ("And", "Or", "Xor", "Not", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
        "BOOL",
    ),
    **dict.fromkeys(("IsNaN", "IsInf"), "BOOL"),
}


def _given_type(node: Node, given: Sequence[str], place: int) -> str:
    """Return the type of a node's output; "" where it cannot be told."""
    value, to = node.attributes.get("value"), node.attributes.get("to")
    operator = node.operator
    kind = _ALWAYS.get(operator) or (given[0] if given else "")
    if operator == "Cast":
        kind = TYPES.get(to, "") if isinstance(to, int) else ""
    elif operator == "TopK" and place == 1:
        kind = "INT64"
    elif operator in ("Constant", "ConstantOfShape"):
        kind = value.type if isinstance(value, Constant) else "FLOAT"
    elif operator == "QuantizeLinear":
        kind = given[2] if len(given) > 2 and given[2] else "UINT8"
    elif operator in ("DequantizeLinear", "Where"):
        kind = given[1] if len(given) > 1 else ""
    elif operator == "EfficientNMS_TRT":
        kind = "INT32" if place in (0, 3) else "FLOAT"
    return kind


def _graph(model: memoryview, graph: memoryview) -> Graph:
    versions = [
        _integer(entry, _OPSET_VERSION)
        for entry in wire.messages(model, _MODEL_OPSETS)
        if not wire.text(entry, _OPSET_DOMAIN)
    ]
    constants = {
        wire.text(tensor, _TENSOR_NAME): _constant(tensor)
        for tensor in wire.messages(graph, _GRAPH_INITIALIZER)
    }
    inputs = (_value(value) for value in wire.messages(graph, _GRAPH_INPUT))
    return Graph(
        max(versions, default=0),
        tuple(_node(node) for node in wire.messages(graph, _GRAPH_NODE)),
        constants,
        # Old files list their weights among the inputs.
        {name: (kind, shape) for name, kind, shape in inputs if name not in constants},
        tuple(wire.text(value, _VALUE_NAME) for value in wire.messages(graph, _GRAPH_OUTPUT)),
    )


def _node(node: memoryview) -> Node:
    # In one pass: a network has hundreds of nodes, and is looked at several times.
    texts: dict[int, list[str]] = {number: [] for number in _NODE_TEXTS}
    attributes = {}
    for number, value, _ in wire.fields(node):
        if number in texts:
            texts[number].append(bytes(wire.content(value)).decode())
        elif number == _NODE_ATTRIBUTE:
            name, found = _attribute(wire.content(value))
            if found is not None:
                attributes[name] = found
    name, operator, domain = (
        next(iter(texts[number]), "") for number in (_NODE_NAME, _NODE_OPERATOR, _NODE_DOMAIN)
    )
    inputs, outputs = (tuple(texts[number]) for number in (_NODE_INPUT, _NODE_OUTPUT))
    return Node(name, operator, domain, inputs, outputs, attributes)


def _attribute(data: memoryview) -> tuple[str, int | str | tuple[int, ...] | Constant | None]:
    name = ""
    found: int | str | None = None
    many: list[int] = []
    for number, value, _ in wire.fields(data):
        if number == _ATTRIBUTE_NAME:
            name = bytes(wire.content(value)).decode()
        elif number == _ATTRIBUTE_INT and isinstance(value, int):
            found = _signed(value)
        elif number == _ATTRIBUTE_TEXT:
            found = bytes(wire.content(value)).decode(errors="replace")
        elif number == _ATTRIBUTE_TENSOR:
            return wire.text(data, _ATTRIBUTE_NAME), _constant(wire.content(value))
        elif number == _ATTRIBUTE_INTS:
            many += [value] if isinstance(value, int) else wire.integers(value)
    return name, tuple(map(_signed, many)) if many else found


def _constant(tensor: memoryview) -> Constant:
    kind, raw = "", b""
    dims: list[int] = []
    typed: list[int] = []
    for number, value, _ in wire.fields(tensor):
        if number == _TENSOR_TYPE and isinstance(value, int):
            kind = TYPES.get(value, "")
        elif number == _TENSOR_RAW:
            content = wire.content(value)
            raw = bytes(content) if len(content) <= 8 * _MOST_KEPT else b""
        elif number in (_TENSOR_DIMS, _TENSOR_INT32, _TENSOR_INT64):
            into = dims if number == _TENSOR_DIMS else typed
            into += [value] if isinstance(value, int) else wire.integers(value)
    letter = _WHOLE.get(kind)
    numbers = tuple(map(_signed, typed))
    if letter and raw and len(raw) % struct.calcsize(letter) == 0:
        numbers = struct.unpack(f"<{len(raw) // struct.calcsize(letter)}{letter}", raw)
    small = letter is not None and math.prod(dims) <= _MOST_KEPT
    return Constant(kind, tuple(dims), numbers if small else ())


def _value(value: memoryview) -> tuple[str, str, tuple[int, ...]]:
    kind, shape = "", []
    for outer in wire.messages(value, _VALUE_TYPE):
        for tensor in wire.messages(outer, _TYPE_TENSOR):
            kind = TYPES.get(_integer(tensor, _ELEMENT), "")
            for dims in wire.messages(tensor, _SHAPE):
                shape = [_size(dim) for dim in wire.messages(dims, _SHAPE_DIM)]
    return wire.text(value, _VALUE_NAME), kind, tuple(shape)


def _size(dim: memoryview) -> int:
    return _integer(dim, _DIM_VALUE, -1)


def _integer(data: memoryview, wanted: int, default: int = 0) -> int:
    for number, value, _ in wire.fields(data):
        if number == wanted and isinstance(value, int):
            return _signed(value)
    return default


def _signed(value: int) -> int:
    """Protobuf writes negative numbers as their 64-bit complement."""
    return value - (1 << 64) if value >= 1 << 63 else value
