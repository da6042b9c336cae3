"""Reads what an ONNX file holds, without the onnx package: the core install has none.

Only the parts of the file format (protobuf, onnx.proto3) that are needed: operators, their set's
version, the parameters' sizes and the metadata. Weights are stepped over, not read.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vision_heads.errors import UserError

# Field numbers of onnx.proto3.
_MODEL_GRAPH, _MODEL_OPSETS, _MODEL_PROPS = 7, 8, 14
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_OPERATOR = 4
_TENSOR_DIMS, _TENSOR_TYPE = 1, 2
_KEY, _VALUE = 1, 2
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_FLOATS = {1, 10, 11, 16}
"""TensorProto's FLOAT, FLOAT16, DOUBLE and BFLOAT16."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


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


def _model(data: memoryview, size: int) -> OnnxContent:
    graphs = list(_messages(data, _MODEL_GRAPH))
    if not graphs:
        raise ValueError("it has no graph")
    graph = graphs[0]
    operators = Counter(_text(node, _NODE_OPERATOR) for node in _messages(graph, _GRAPH_NODE))
    versions = [
        value
        for entry in _messages(data, _MODEL_OPSETS)
        if not _text(entry, _OPSET_DOMAIN)
        for field, value in _fields(entry)
        if field == _OPSET_VERSION and isinstance(value, int)
    ]
    return OnnxContent(
        opset=max(versions, default=0),
        operators=dict(operators.most_common()),
        numbers=sum(map(_floats, _messages(graph, _GRAPH_INITIALIZER))),
        metadata={_text(pair, _KEY): _text(pair, _VALUE) for pair in _messages(data, _MODEL_PROPS)},
        size=size,
    )


def _floats(tensor: memoryview) -> int:
    """Return how many floating-point numbers a tensor holds."""
    dims: list[int] = []
    kind = 0
    for field, value in _fields(tensor):
        if field == _TENSOR_DIMS and isinstance(value, int):
            dims.append(value)
        elif field == _TENSOR_DIMS:  # packed
            dims += _varints(_message(value))
        elif field == _TENSOR_TYPE and isinstance(value, int):
            kind = value
    return math.prod(dims) if kind in _FLOATS else 0


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield a message's fields: number, and an integer or the bytes of what is inside."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield field, value
            continue
        if kind == _BYTES:
            length, at = _varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"unknown wire type {kind}")
        if at + length > len(data):
            raise ValueError("it is cut off")
        yield field, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("it is cut off")


def _varints(data: memoryview) -> list[int]:
    at, values = 0, []
    while at < len(data):
        value, at = _varint(data, at)
        values.append(value)
    return values


def _messages(data: memoryview, wanted: int) -> Iterator[memoryview]:
    """Yield what is inside each field of this number."""
    for field, value in _fields(data):
        if field == wanted:
            yield _message(value)


def _text(data: memoryview, wanted: int) -> str:
    """Return a message's text field, "" where it has none."""
    return next((bytes(text).decode() for text in _messages(data, wanted)), "")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message belongs")
    return value
