"""QuantizeLinear and DequantizeLinear where they belong, with scales from measured ranges."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from vision_heads.export.calibration import Calibration, Range
from vision_heads.export.quantize_graph import QUANTIZED, OnnxGraph
from vision_heads.export.quantize_rewrite import Rewritten


def quantized_nodes(graph: OnnxGraph, kept: Collection[str]) -> list[str]:
    """Return the names of the nodes to quantize: the network's, without those to keep."""
    end = graph.end()
    return [
        node.name
        for node in graph.model.graph.node
        if node.op_type in QUANTIZED and node.name not in end and node.name not in kept
    ]


def insert(
    graph: OnnxGraph, names: Sequence[str], told: Rewritten, calibration: Calibration
) -> Any:
    """Quantize the named nodes for ONNX Runtime on CPUs; return the model."""
    ranges = _shared(graph, names, told, calibration)
    # Also where a node that only copies is the first to read the picture.
    return insert_ranges(graph, names, ranges, ForceQuantizeNoInputCheck=True)


def insert_symmetric(graph: OnnxGraph, names: Sequence[str], calibration: Calibration) -> Any:
    """Quantize the convolutions and sums among the nodes for TensorRT; return the model.

    What TensorRT fuses with a convolution (bias, SiLU) must stand between its result and the next
    QuantizeLinear, so results of convolutions are not quantized.
    """
    names = [name for name in names if graph.nodes[name].op_type in ("Conv", "Add")]
    ranges = {
        name: (-max(abs(low), abs(high)), max(abs(low), abs(high)))
        for name, (low, high) in calibration.ranges.items()
    }
    (given,) = graph.model.graph.input
    ranges[given.name] = (-1.0, 1.0)
    return insert_ranges(
        graph, names, ranges, signed=True,
        ActivationSymmetric=True, QuantizeBias=False,
        OpTypesToExcludeOutputQuantization=["Conv", "Add"],
    )  # fmt: skip


def _shared(
    graph: OnnxGraph, names: Sequence[str], told: Rewritten, calibration: Calibration
) -> dict[str, Range]:
    """Return the range of every tensor, one for those that are copies of each other.

    What is concatenated shares a range too: the INT8 kernel then copies instead of looking up
    every number in a table.
    """
    ranges = dict(calibration.ranges)
    (given,) = graph.model.graph.input
    ranges[given.name] = (0.0, 1.0)  # RGB / 255: every step of a picture is a step of INT8
    pairs = list(told.same)
    for name in names:
        node = graph.nodes[name]
        if node.op_type == "Sigmoid":
            ranges[node.output[0]] = (0.0, 1.0)
        elif node.op_type in ("Concat", "MaxPool", "Resize"):
            data = node.input if node.op_type == "Concat" else node.input[:1]
            pairs += [(tensor, node.output[0]) for tensor in data]
    for group in _groups(pairs):
        known = [ranges[tensor] for tensor in group if tensor in ranges]
        shared = (min(low for low, _ in known), max(high for _, high in known))
        ranges.update(dict.fromkeys(group, shared))
    return ranges


def _groups(pairs: Sequence[tuple[str, str]]) -> list[set[str]]:
    """Join pairs that have a member in common."""
    member: dict[str, set[str]] = {}
    for a, b in pairs:
        joined = member.get(a, {a}) | member.get(b, {b})
        member.update(dict.fromkeys(joined, joined))
    return list({id(group): group for group in member.values()}.values())


def insert_ranges(
    graph: OnnxGraph,
    names: Sequence[str],
    ranges: Mapping[str, Range],
    *,
    signed: bool = False,
    **options: Any,
) -> Any:
    """Put QuantizeLinear and DequantizeLinear around nodes; return the model.

    Args:
        graph: changed.
        names: of the nodes.
        ranges: lowest and highest value of each tensor that they read or make.
        signed: activations are int8 instead of uint8; weights are int8 by channel either way.
        options: of onnxruntime's QDQ quantizer.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantType  # noqa: PLC0415
    from onnxruntime.quantization.calibrate import TensorsData  # noqa: PLC0415
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer  # noqa: PLC0415

    bounds = {
        name: (np.array(low, np.float32), np.array(high, np.float32))
        for name, (low, high) in ranges.items()
    }
    quantizer = QDQQuantizer(
        graph.model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8 if signed else QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, bounds),
        nodes_to_quantize=list(names),
        nodes_to_exclude=[],
        op_types_to_quantize=sorted({graph.nodes[name].op_type for name in names}),
        extra_options=dict(options),
    )
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        quantizer.quantize_model()
    quantizer.model.topological_sort()
    return quantizer.model.model
