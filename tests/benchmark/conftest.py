"""Tiny model files and a picture they find something in."""

from __future__ import annotations

import cv2
import pytest

from tests.runtime.tiny_onnx import picture, write_model


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Return a folder with fixed.onnx, open.onnx (any batch) and picture.png."""
    folder = tmp_path_factory.mktemp("bench")
    write_model(folder / "fixed.onnx", size=64)
    write_model(folder / "open.onnx", size=64, batch=None)
    image = picture(64, 64, {"red": [(16, 16, 16)], "blue": [(40, 32, 16)]})
    cv2.imwrite(str(folder / "picture.png"), image)
    return folder
