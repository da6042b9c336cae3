"""How much each layer loses in INT8 on its own, measured against its float result.

Beside every layer of the float network runs a copy of it with weights, inputs and results rounded
to INT8, fed with *float* activations: errors of earlier layers do not count. The signal-to-noise
ratio of its result says how sensitive it is; all of them are measured in one pass a picture, and
only sums leave the graph. What a layer's noise does to boxes and scores is not measured: that is
what the gate is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_heads.export.calibration import Calibration, PictureStock, Range
from vision_heads.export.quantize_graph import Layer, OnnxGraph, open_float
from vision_heads.spec import METADATA_KEY, ModelSpec

PICTURES = 8
"""Calibration pictures that layers are measured on."""
_STEPS = 255
_LARGEST_WEIGHT = 127


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """A layer's loss in INT8.

    Attributes:
        name: of its convolution.
        kind: "depthwise", or the kernel's size such as "3x3".
        sqnr: signal to quantization noise of its result, dB; the lower, the more sensitive.
    """

    name: str
    kind: str
    sqnr: float


def layers(
    source: Path, calibration: Calibration, *, pictures: int = PICTURES
) -> list[Sensitivity]:
    """Measure every layer of an FP32 ONNX file that INT8 would quantize.

    Args:
        source: written by `vh export`.
        calibration: its ranges; the first of its pictures are used again.
        pictures: at most so many.

    Returns:
        Most sensitive first.

    Raises:
        UserError: `source` is not such a file.
    """
    import onnxruntime  # noqa: PLC0415

    graph = open_float(source)
    metadata = {entry.key: entry.value for entry in graph.model.metadata_props}
    spec = ModelSpec.from_json(metadata[METADATA_KEY], str(source))
    every = graph.layers()
    names = _add_twins(graph, every, calibration.ranges)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # The copies are to be computed as they are written, not turned into INT8 kernels.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(
        graph.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (given,) = session.get_inputs()
    batch = given.shape[0] if isinstance(given.shape[0], int) else 1
    sums = np.zeros((len(every), 2))
    for images in PictureStock(calibration.files, spec.input, pictures):
        values = session.run(names, {given.name: np.repeat(images, batch, 0)})
        sums += np.array(values, np.float64).reshape(-1, 2)
    ratios = 10 * np.log10(np.maximum(sums[:, 0], 1e-30) / np.maximum(sums[:, 1], 1e-30))
    found = [
        Sensitivity(layer.name, layer.kind, float(ratio))
        for layer, ratio in zip(every, ratios, strict=True)
    ]
    return sorted(found, key=lambda one: one.sqnr)


def _add_twins(graph: OnnxGraph, every: Sequence[Layer], ranges: dict[str, Range]) -> list[str]:
    """Add a rounded copy of each layer; return the outputs: signal and noise of each."""
    from onnx import TensorProto, helper  # noqa: PLC0415

    del graph.model.graph.output[:]
    outputs = []
    for layer in every:
        twin = _Twin(graph, layer, ranges)
        for name in twin.build():
            outputs.append(name)
            value = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            graph.model.graph.output.append(value)
    return outputs


class _Twin:
    """Builds one layer's rounded copy behind it."""

    def __init__(self, graph: OnnxGraph, layer: Layer, ranges: dict[str, Range]) -> None:
        self._graph, self._layer, self._ranges = graph, layer, ranges
        self._prefix = f"twin/{layer.name}"
        self._rounded: dict[str, str] = {}

    def build(self) -> tuple[str, str]:
        """Append the copy's nodes; return the names of signal and noise, sums of squares."""
        inside = {name for node in self._nodes() for name in node.output}
        for node in self._nodes():
            inputs = [
                self._weight(name)
                if name in self._graph.constants
                else self._round(name, name in inside)
                for name in node.input[:2]
            ]
            bias = list(node.input[2:])  # 32 bits: its rounding does not count
            out = self._name(node.output[0])
            self._add(node.op_type, [*inputs, *bias], out, node.attribute)
        result = self._round(self._layer.output, True)
        difference = f"{self._prefix}/difference"
        self._add("Sub", [self._layer.output, result], difference)
        return self._squares(self._layer.output, "signal"), self._squares(difference, "noise")

    def _nodes(self) -> list[Any]:
        return [self._graph.nodes[name] for name in self._layer.nodes]

    def _name(self, tensor: str) -> str:
        return f"{self._prefix}/{tensor}"

    def _add(self, operator: str, inputs: list[str], out: str, attributes: Any = ()) -> None:
        from onnx import helper  # noqa: PLC0415

        node = helper.make_node(operator, inputs, [out], out)
        node.attribute.extend(attributes)
        self._graph.model.graph.node.append(node)

    def _squares(self, tensor: str, name: str) -> str:
        from onnx import helper  # noqa: PLC0415

        out = f"{self._prefix}/{name}"
        # Without axes it sums over everything, in every operator set.
        node = helper.make_node("ReduceSumSquare", [tensor], [out], out, keepdims=0)
        self._graph.model.graph.node.append(node)
        return out

    def _round(self, tensor: str, inside: bool) -> str:
        """Return a tensor in steps of its 8 bits; the copy's own where the copy has made it."""
        source = self._name(tensor) if inside else tensor
        if source not in self._rounded:
            scale, zero = steps(self._ranges[tensor])
            rounded = f"{self._prefix}/rounded/{tensor}"
            parameters = [
                self._graph.add_constant(f"{rounded}/scale", np.array(scale, np.float32)),
                self._graph.add_constant(f"{rounded}/zero", np.array(zero, np.uint8)),
            ]
            self._add("QuantizeLinear", [source, *parameters], f"{rounded}/steps")
            self._add("DequantizeLinear", [f"{rounded}/steps", *parameters], rounded)
            self._rounded[source] = rounded
        return self._rounded[source]

    def _weight(self, name: str) -> str:
        rounded = f"{self._prefix}/rounded/{name}"
        if rounded not in self._graph.constants:
            self._graph.add_constant(rounded, round_weight(self._graph.constant(name)))
        return rounded


def steps(bounds: Range) -> tuple[float, int]:
    """Return scale and zero point of unsigned 8 bits; 0 is always one of the steps."""
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    scale = max(high - low, 1e-8) / _STEPS
    return scale, int(np.clip(np.rint(-low / scale), 0, _STEPS))


def round_weight(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a weight (out, in, ...) in signed 8-bit steps of each output channel."""
    largest = np.abs(weight).max(axis=tuple(range(1, weight.ndim)), keepdims=True)
    scale = np.maximum(largest, 1e-8) / _LARGEST_WEIGHT
    rounded: NDArray[np.float32] = (np.rint(weight / scale) * scale).astype(np.float32)
    return rounded
