"""Engines and the graphs they are built from, for the tests of TensorRT."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from vision_heads.export.tensorrt import EngineOptions, build_engine


def build(source, tmp_path, **options):
    lines = []
    report = build_engine(source, tmp_path / "m.engine", EngineOptions(**options), lines.append)
    return report, lines


def typed(source, target):
    """As the FP16 conversion does: weights of convolutions in float16, with casts around."""
    model = onnx.load(source)
    weights = {i.name: i for i in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Conv":
            for place, name in enumerate(node.input):
                if name in weights:
                    tensor = weights[name]
                    values = numpy_helper.to_array(tensor).astype(np.float16)
                    tensor.CopyFrom(numpy_helper.from_array(values, name))
                else:
                    cast = f"{name}_half_{node.name}"
                    nodes.append(helper.make_node("Cast", [name], [cast], f"{node.name}/in", to=10))
                    node.input[place] = cast
            output = node.output[0]
            node.output[0] = f"{output}_half"
            nodes += [
                node,
                helper.make_node("Cast", [node.output[0]], [output], f"{node.name}/out", to=1),
            ]
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, target)
    return target


def quantized(source, target):
    """Symmetric INT8 around the first convolution's input and weights."""
    model = onnx.load(source)
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.float32(1 / 127), "scale"),
            numpy_helper.from_array(np.int8(0), "zero"),
        ]
    )
    nodes = []
    for place in (0, 1):
        name = first.input[place]
        nodes += [
            helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{name}_q"], f"q{place}"),
            helper.make_node(
                "DequantizeLinear", [f"{name}_q", "scale", "zero"], [f"{name}_dq"], f"dq{place}"
            ),
        ]
        first.input[place] = f"{name}_dq"
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    onnx.save(model, target)
    return target


def flags(trt):
    return {flag.name for flag in trt.last[1].flags}
