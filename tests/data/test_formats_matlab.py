"""Arrays out of MATLAB files, whole and damaged ones."""

from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
import pytest

from vision_heads.data.formats.matlab import LARGEST, read_arrays

FIELDS = {
    "Pose_Para": np.array([[0.1, -0.5, 0.2, 1, 2, 3, 4e-4]]),
    "pt2d": np.arange(136).reshape(2, 68),
    "roi": np.array([[1, 2, 3, 4]], np.int16),
    "a": np.array([[7]], np.uint8),
}


def written(fields=FIELDS, **options):
    buffer = io.BytesIO()
    pytest.importorskip("scipy.io").savemat(buffer, fields, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("packed", [False, True])
def test_arrays_are_those_that_were_written(packed):
    others = {"text": np.array(["x"]), "z": np.array([[1 + 2j]]), "cells": np.array([[{}]], object)}
    found = read_arrays(written(FIELDS | others, do_compression=packed), {*FIELDS, *others})
    for name, array in FIELDS.items():
        assert found[name].tolist() == array.tolist()
    assert [name for name, array in found.items() if array is None] == [*others]


def test_the_other_order_of_bytes():
    def element(kind, data):
        return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)

    parts = element(6, struct.pack(">II", 6, 0)), element(5, struct.pack(">ii", 1, 2))
    short = struct.pack(">HH", 1, 1) + b"a\0\0\0"  # as descriptions of at most 4 bytes are
    whole = element(14, b"".join(parts) + short + element(9, struct.pack(">dd", 1.5, -2)))
    head = bytes(124) + struct.pack(">H", 0x0100) + b"MI"
    assert read_arrays(head + whole, ["a"])["a"].tolist() == [[1.5, -2]]


def test_what_nobody_wants_is_not_looked_into():
    data = bytearray(
        written({"big": np.zeros((1, LARGEST)), "a": np.ones((1, 1))}, do_compression=True)
    )
    assert [*read_arrays(bytes(data), ["a"])] == ["a"]
    with pytest.raises(ValueError, match="larger than"):
        read_arrays(bytes(data), ["big"])


@pytest.mark.parametrize("packed", [False, True])
def test_damage_is_a_value_error(packed):
    """One wrong bit ended the process: scipy reads beyond what is there."""
    data, chance = written(do_compression=packed), random.Random(0)
    for _ in range(500):
        wrong = bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            wrong[chance.randrange(124, len(data))] ^= 1 << chance.randrange(8)
        cut = chance.choice([len(data), chance.randrange(len(data))])
        try:
            read_arrays(bytes(wrong[:cut]), FIELDS)
        except ValueError as error:
            assert str(error)


def test_a_packed_element_that_is_no_array_is_refused():
    body = zlib.compress(struct.pack("<II", 9, 8) + bytes(8))
    with pytest.raises(ValueError, match="without a description"):
        read_arrays(written({})[:128] + struct.pack("<II", 15, len(body)) + body, ["a"])
