"""Protobuf's wire format: just enough to read ONNX files and to leave parts of them out.

The core install has neither the onnx nor the protobuf package.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """One field of a message.

    Attributes:
        number: of the field in its message's definition.
        value: an integer, or the bytes of what is inside.
        raw: the whole field as it stands in the message.
    """

    number: int
    value: int | memoryview
    raw: memoryview


def fields(data: memoryview) -> Iterator[Field]:
    """Yield a message's fields in order; `ValueError` where it is damaged or cut off."""
    at = 0
    while at < len(data):
        start = at
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield Field(number, value, data[start:at])
            continue
        if kind == _BYTES:
            length, at = _varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"unknown wire type {kind}")
        if at + length > len(data):
            raise ValueError("it is cut off")
        yield Field(number, data[at : at + length], data[start : at + length])
        at += length


def messages(data: memoryview, wanted: int) -> Iterator[memoryview]:
    """Yield what is inside each field of this number."""
    for field in fields(data):
        if field.number == wanted:
            yield content(field.value)


def texts(data: memoryview, wanted: int) -> list[str]:
    """Return a message's text fields of this number."""
    return [bytes(text).decode() for text in messages(data, wanted)]


def text(data: memoryview, wanted: int) -> str:
    """Return a message's text field, "" where it has none."""
    return next(iter(texts(data, wanted)), "")


def content(value: int | memoryview) -> memoryview:
    """Return the bytes of a field; `ValueError` when it holds a number."""
    if isinstance(value, int):
        raise ValueError("a number where a message belongs")
    return value


def integers(data: memoryview) -> list[int]:
    """Return the integers of a packed field."""
    at, values = 0, []
    while at < len(data):
        value, at = _varint(data, at)
        values.append(value)
    return values


def packed(number: int, inside: bytes) -> bytes:
    """Return a field of this number that holds these bytes."""
    return _encoded(number << 3 | _BYTES) + _encoded(len(inside)) + inside


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


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
