"""Files that tools/bench/precision.py races: FP32 and INT8 of one model, and ways to make them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vision_heads.data.card import load_split
from vision_heads.export.calibration import Calibration, calibrate
from vision_heads.export.quantize import quantize_with
from vision_heads.export.quantize_graph import OnnxGraph, open_float
from vision_heads.export.quantize_insert import insert, insert_ranges, quantized_nodes
from vision_heads.export.quantize_rewrite import Rewritten, rewrite

FEW = 2
"""Calibration pictures of files that only show what an activation costs."""


def build(source: Path, folder: Path, data: str, count: int, variants: bool) -> dict[str, Path]:
    """Make what is not in the folder yet; return files by what they are.

    Args:
        source: FP32 ONNX file.
        folder: where the others go, or are from another run.
        data: card whose split train has the calibration pictures.
        count: of them to use.
        variants: everything that was tried, not INT8 alone.
    """
    maker = _Maker(source, folder, data, count)
    files = {"fp32": source, "int8": maker.make("int8", maker.int8)}
    if variants:
        for name, way in maker.ways().items():
            files[name] = maker.make(name, way)
    return files


class _Maker:
    def __init__(self, source: Path, folder: Path, data: str, count: int) -> None:
        self._source, self._folder, self._data, self._count = source, folder, data, count
        self._calibration: Calibration | None = None

    def make(self, name: str, way: Callable[[Path], None]) -> Path:
        """Write one file unless it is there."""
        path = self._folder / f"{name.replace(' ', '-').replace(',', '')}.onnx"
        if not path.exists():
            way(path)
        return path

    def ways(self) -> dict[str, Callable[[Path], None]]:
        """Return every variant by its name."""
        ways: dict[str, Callable[[Path], None]] = {
            "fp32, INT8's exact changes": self._changed_float,
            "fp32, uint8 input": lambda path: self._save(uint8_input(self._float()), path),
            "int8, uint8 input": self._int8_uint8_input,
            "int8, every change left out": lambda path: self._plain(path, shared=False),
            "int8, shared scales alone": lambda path: self._plain(path, shared=True),
            "int8, SiLU in float": lambda path: self._without(path, ("Sigmoid", "Mul")),
            "int8, depthwise in float": self._depthwise_float,
        }
        for kind in ("HardSwish", "Relu6"):
            ways[f"fp32, {kind}"] = partial(self._float_other, kind)
            ways[f"int8, {kind}"] = partial(self._int8_other, kind)
        return ways

    def int8(self, path: Path) -> None:
        """Write the file as `vh export --format onnx-int8` makes it when the gate holds at once."""
        quantize_with(self._source, path, self.calibration())

    def calibration(self) -> Calibration:
        """Measure ranges, once."""
        if self._calibration is None:
            self._calibration = self._measure(self._source, self._count)
        return self._calibration

    def _measure(self, source: Path, count: int) -> Calibration:
        files = [sample.image for sample in load_split(self._data, "train").samples]
        return calibrate(source, files, count=count)

    def _float(self) -> Any:
        return onnx.load(str(self._source))

    def _save(self, model: Any, path: Path) -> None:
        onnx.checker.check_model(model)
        onnx.save(model, str(path))

    def _changed_float(self, path: Path) -> None:
        graph = open_float(self._source)
        rewrite(graph)
        self._save(graph.model, path)

    def _int8_uint8_input(self, path: Path) -> None:
        self.int8(path)
        self._save(quantized_input(onnx.load(str(path))), path)

    def _plain(self, path: Path, *, shared: bool) -> None:
        graph = open_float(self._source)
        names = quantized_nodes(graph, ())
        calibration = self.calibration()
        if shared:
            self._save(insert(graph, names, Rewritten(), calibration), path)
            return
        ranges = {**calibration.ranges, graph.model.graph.input[0].name: (0.0, 1.0)}
        for name in names:
            if graph.nodes[name].op_type == "Sigmoid":
                ranges[graph.nodes[name].output[0]] = (0.0, 1.0)
        self._save(insert_ranges(graph, names, ranges), path)

    def _without(self, path: Path, operators: tuple[str, ...]) -> None:
        graph = open_float(self._source)
        names = [n for n in quantized_nodes(graph, ()) if graph.nodes[n].op_type not in operators]
        told = rewrite(graph)
        names = [name for name in names if name in graph.nodes] + told.moving
        self._save(insert(graph, names, told, self.calibration()), path)

    def _depthwise_float(self, path: Path) -> None:
        layers = open_float(self._source).layers()
        names = [layer.name for layer in layers if layer.kind == "depthwise"]
        quantize_with(self._source, path, self.calibration(), exclude=names)

    def _float_other(self, activation: str, path: Path) -> None:
        self._save(other_activation(self._float(), activation), path)

    def _int8_other(self, activation: str, path: Path) -> None:
        changed = self.make(f"fp32, {activation}", partial(self._float_other, activation))
        quantize_with(changed, path, self._measure(changed, FEW))


def uint8_input(model: Any) -> Any:
    """Let an FP32 file take uint8: Cast, and the scale folded into the first convolution."""
    graph = OnnxGraph(model)
    (given,) = model.graph.input
    (first,) = graph.consumers[given.name]
    weight = graph.constant(first.input[1]) / np.float32(255)
    first.input[1] = graph.add_constant("uint8/weight", weight)
    first.input[0] = "uint8/float"
    cast = helper.make_node("Cast", [given.name], ["uint8/float"], "uint8/cast", to=1)
    model.graph.node.insert(0, cast)
    given.type.tensor_type.elem_type = TensorProto.UINT8
    return model


def quantized_input(model: Any) -> Any:
    """Let an INT8 file take uint8: its input is what QuantizeLinear would make of the picture."""
    graph = OnnxGraph(model)
    (given,) = model.graph.input
    (first,) = graph.consumers[given.name]
    assert first.op_type == "QuantizeLinear"
    graph.rewire(first.output[0], given.name)
    model.graph.node.remove(first)
    given.type.tensor_type.elem_type = TensorProto.UINT8
    return model


def other_activation(model: Any, kind: str) -> Any:
    """Put another activation in SiLU's place, for its time alone.

    Args:
        kind: "HardSwish", or "Relu6", which is a Clip.
    """
    graph = OnnxGraph(model)
    for limit in (0, 6):
        value = numpy_helper.from_array(np.array(limit, np.float32), f"limit/{limit}")
        model.graph.initializer.append(value)
    for layer in graph.layers():
        if len(layer.nodes) != 3:
            continue
        convolution, sigmoid, product = (graph.nodes[name] for name in layer.nodes)
        inputs = [convolution.output[0]]
        operator = kind
        if kind == "Relu6":
            operator, inputs = "Clip", [*inputs, "limit/0", "limit/6"]
        node = helper.make_node(operator, inputs, [product.output[0]], product.name)
        graph.replace([sigmoid, product], [node], product)
    return model
