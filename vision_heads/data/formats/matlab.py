"""Arrays of numbers in MATLAB files (version 5 to 7, what AFLW2000 and 300W-LP are in).

Read here and not by scipy, which a file of which one bit is wrong can crash, and the process with
it. Source: MathWorks' description of the MAT-file format, level 5.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Collection, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

_HEADER = 128
_NUMBERS = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_MATRIX, _COMPRESSED = 14, 15
_ARRAYS = range(6, 16)
"""Classes of full arrays of numbers; others are cells, structures, texts, sparse arrays."""
_COMPLEX = 0x800
_DESCRIPTION = 1024
"""Bytes at the beginning of a packed array that hold its name."""
LARGEST = 1 << 20
"""Bytes of an array; those of a face have a few thousand, compressed ones may unpack to any."""


def read_arrays(data: bytes, names: Collection[str]) -> dict[str, NDArray[np.float64] | None]:
    """Return arrays of a file by name.

    Args:
        data: the file.
        names: of those that are wanted; nobody looks into the others.

    Returns:
        Those that are there, float64; None for one that holds no real numbers.

    Raises:
        ValueError: it is no such file, cut off or damaged.
    """
    try:
        order = {b"IM": "<", b"MI": ">"}[data[126:_HEADER]]
        if struct.unpack_from(f"{order}H", data, 124) != (0x0100,):
            raise ValueError("it is not of version 5 to 7")
        found = {}
        for kind, body in _elements(data[_HEADER:], order):
            name = _name(kind, body, order)
            if name in names:
                whole = _unpacked(body, order) if kind == _COMPRESSED else body
                found[name] = _array(name, whole, order)
    except (KeyError, struct.error) as error:
        raise ValueError("it does not begin as one, or is cut off") from error
    except zlib.error as error:
        raise ValueError("what it has compressed is damaged") from error
    return found


def _name(kind: int, body: bytes, order: str) -> str:
    """Return the name of an array, packed or not."""
    if kind == _COMPRESSED:
        body = zlib.decompressobj().decompress(body, _DESCRIPTION)[8:]
    elif kind != _MATRIX:
        raise ValueError(f"an element of type {kind} where an array belongs")
    parts = [part for _, part in islice(_elements(body, order), 3)]
    if len(parts) < 3:
        raise ValueError("an array without a description")
    return parts[2].decode("ascii", "replace")


def _unpacked(data: bytes, order: str) -> bytes:
    stream = zlib.decompressobj()
    whole = stream.decompress(data, LARGEST)
    if not stream.eof:
        raise ValueError(f"an array is cut off, or larger than {LARGEST} bytes")
    return next(body for _, body in _elements(whole, order))


def _array(name: str, body: bytes, order: str) -> NDArray[np.float64] | None:
    (_, flags), (_, sides), _, *rest = _elements(body, order)  # `_name` has seen three
    (flag,) = struct.unpack_from(f"{order}I", flags)
    if flag & 0xFF not in _ARRAYS or flag & _COMPLEX:
        return None
    shape = np.frombuffer(sides, f"{order}i4").tolist()
    kind, numbers = rest[0] if rest else (0, b"")
    if kind not in _NUMBERS or min(shape, default=-1) < 0:
        raise ValueError(f"{name}: its description is damaged")
    values = np.frombuffer(numbers, order + _NUMBERS[kind]).astype(np.float64)
    if math.prod(shape) != len(values):
        raise ValueError(f"{name}: {len(values)} numbers for an array of {shape}")
    return values.reshape(shape, order="F")


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of the elements that follow each other."""
    at = 0
    while at + 8 <= len(data):
        kind, length = struct.unpack_from(f"{order}II", data, at)
        begin = at + 8
        if kind >> 16:  # so short that it stands in its own description
            kind, length, begin = kind & 0xFFFF, kind >> 16, at + 4
            at += 8
        else:
            at = begin + length + (0 if kind == _COMPRESSED else -length % 8)
        if begin + length > len(data) or (at == begin + 4 and length > 4):
            raise ValueError("it is cut off")
        yield kind, data[begin : begin + length]
