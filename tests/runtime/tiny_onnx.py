"""A network small enough to write by hand, that really looks at its picture.

It slides a 16x16 window in steps of 8 over the input: class `red`, `green` or `blue` scores as
far as the window is brighter than half in that channel. A bright 16x16 square aligned to 8 is
found exactly once, with score 1; grey padding and everything darker scores 0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vision_heads.spec import METADATA_KEY, HeadSpec, InputSpec, ModelSpec

WINDOW, STEP = 16, 8
CLASSES = ("red", "green", "blue")


def write_model(
    path: Path,
    *,
    size: int = 128,
    batch: int | None = 1,
    heads: tuple[str, ...] = ("aerial",),
    metadata: str | None = None,
    skip_output: str = "",
    any_size: bool = False,
) -> ModelSpec:
    """Write the network as `vh export` would, and return its spec.

    `metadata` replaces the description in the file ("" leaves it out); `skip_output` leaves one
    output out; `any_size` leaves height and width open, though only `size` works.
    """
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto
    spec = ModelSpec(
        input=InputSpec(height=size, width=size),
        heads=tuple(HeadSpec(name=name, classes=CLASSES, category_ids=(3, 5, 9)) for name in heads),
    )
    start = np.arange((size - WINDOW) // STEP + 1) * STEP
    y, x = np.meshgrid(start, start, indexing="ij")
    boxes = np.stack([x, y, x + WINDOW, y + WINDOW], -1).reshape(1, -1, 4).astype(np.float32)
    constants = {
        "two": np.float32(2),
        "one": np.float32(1),
        "zero": np.float32(0),
        "flat": np.array([0, 3, -1], np.int64),
        "last": np.array([2], np.int64),
        "grid": boxes,
    }
    nodes = [
        helper.make_node(
            "AveragePool", ["images"], ["mean"], kernel_shape=[WINDOW] * 2, strides=[STEP] * 2
        ),
        helper.make_node("Mul", ["mean", "two"], ["doubled"]),
        helper.make_node("Sub", ["doubled", "one"], ["above"]),
        helper.make_node("Relu", ["above"], ["bright"]),
        helper.make_node("Reshape", ["bright", "flat"], ["planes"]),
        helper.make_node("Transpose", ["planes"], ["scores"], perm=[0, 2, 1]),
        helper.make_node("ReduceSum", ["scores", "last"], ["sum"], keepdims=1),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "grid"], ["boxes"]),
    ]
    outputs = []
    for name in heads:
        for suffix, width in (("boxes", 4), ("scores", 3)):
            output = f"{name}/{suffix}"
            if output == skip_output:
                continue
            nodes.append(helper.make_node("Identity", [suffix], [output]))
            shape = [batch or "batch", boxes.shape[1], width]
            outputs.append(helper.make_tensor_value_info(output, kind.FLOAT, shape))
    for number, node in enumerate(nodes):
        node.name = f"/{node.op_type}_{number}"
    sides = ["height", "width"] if any_size else [size, size]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", kind.FLOAT, [batch or "batch", 3, *sides])],
        outputs,
        [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    text = spec.to_json() if metadata is None else metadata
    if text:
        helper.set_model_props(model, {METADATA_KEY: text})
    onnx.save(model, str(path))
    return spec


def picture(
    width: int, height: int, squares: dict[str, list[tuple[int, int, int]]]
) -> NDArray[np.uint8]:
    """Black BGR picture with bright squares: class name -> (x, y, side)."""
    image = np.zeros((height, width, 3), np.uint8)
    for name, places in squares.items():
        channel = {"red": 2, "green": 1, "blue": 0}[name]
        for x, y, side in places:
            image[y : y + side, x : x + side, channel] = 255
    return image
