"""Reads what exported files hold, without the packages onnx and openvino: the core has neither.

Of ONNX only the parts of the file format (protobuf, onnx.proto3) that are needed: operators, their
set's version, the parameters' sizes and the metadata. Weights are stepped over, not read.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from vision_heads.errors import UserError
from vision_heads.runtime import wire
from vision_heads.spec import METADATA_KEY

# Field numbers of onnx.proto3.
_MODEL_GRAPH, _MODEL_OPSETS, _MODEL_PROPS = 7, 8, 14
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_OPERATOR = 4
_TENSOR_DIMS, _TENSOR_TYPE = 1, 2
_KEY, _VALUE = 1, 2
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_FLOATS = {1, 10, 11, 16}
"""TensorProto's FLOAT, FLOAT16, DOUBLE and BFLOAT16."""


@dataclass(frozen=True, slots=True)
class OnnxContent:
    """What an ONNX file holds.

    Attributes:
        opset: version of the standard operators.
        operators: how many nodes of each, most frequent first.
        numbers: floating-point constants: weights, and the cells' centres and strides.
        metadata: the file's own key-value pairs.
        size: bytes.
    """

    opset: int
    operators: dict[str, int]
    numbers: int
    metadata: dict[str, str]
    size: int


def read_onnx(path: str | Path) -> OnnxContent:
    """Read an ONNX file's content.

    Raises:
        UserError: missing, empty, damaged, or no ONNX file.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        data = path.read_bytes()
        return _model(memoryview(data), len(data))
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: not a readable ONNX file ({error})") from error


def read_openvino(path: str | Path) -> dict[str, str]:
    """Read what `vh export` wrote into an OpenVINO file (.xml) about it.

    Returns:
        "spec", "precision" and "measures", each as text; empty for files of other programs.

    Raises:
        UserError: missing, or no XML.
    """
    try:
        root = ElementTree.fromstring(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{path}: not a readable OpenVINO file ({error})") from error
    about = root.find(f"rt_info/{METADATA_KEY}")
    return {} if about is None else {entry.tag: entry.get("value", "") for entry in about}


def _model(data: memoryview, size: int) -> OnnxContent:
    graphs = list(wire.messages(data, _MODEL_GRAPH))
    if not graphs:
        raise ValueError("it has no graph")
    graph = graphs[0]
    operators = Counter(
        wire.text(node, _NODE_OPERATOR) for node in wire.messages(graph, _GRAPH_NODE)
    )
    versions = [
        value
        for entry in wire.messages(data, _MODEL_OPSETS)
        if not wire.text(entry, _OPSET_DOMAIN)
        for number, value, _ in wire.fields(entry)
        if number == _OPSET_VERSION and isinstance(value, int)
    ]
    return OnnxContent(
        opset=max(versions, default=0),
        operators=dict(operators.most_common()),
        numbers=sum(map(_floats, wire.messages(graph, _GRAPH_INITIALIZER))),
        metadata={
            wire.text(pair, _KEY): wire.text(pair, _VALUE)
            for pair in wire.messages(data, _MODEL_PROPS)
        },
        size=size,
    )


def _floats(tensor: memoryview) -> int:
    """Return how many floating-point numbers a tensor holds."""
    dims: list[int] = []
    kind = 0
    for number, value, _ in wire.fields(tensor):
        if number == _TENSOR_DIMS and isinstance(value, int):
            dims.append(value)
        elif number == _TENSOR_DIMS:  # packed
            dims += wire.integers(wire.content(value))
        elif number == _TENSOR_TYPE and isinstance(value, int):
            kind = value
    return math.prod(dims) if kind in _FLOATS else 0
