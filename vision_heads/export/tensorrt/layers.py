"""A network's layers before the build, and an engine's after it: which ONNX node, which precision.

TensorRT names its layers after the ONNX nodes they come from: one node a layer in a network,
several fused ones in an engine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from vision_heads.errors import UserError
from vision_heads.export.nodes import Graph, decode_nodes
from vision_heads.runtime.tensorrt_file import LayerPrecision

_IN_METADATA = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_TYPES = (
    ("bfloat16", ("bf16", "bfloat16")),
    ("float16", ("fp16", "half", "float16")),
    ("int8", ("int8",)),
    ("fp8", ("fp8", "float8")),
    ("int32", ("int32",)),
    ("int64", ("int64",)),
    ("bool", ("bool",)),
    ("float32", ("fp32", "float")),
)
"""Our names of element types, and what TensorRT's descriptions of formats have in them."""


def pin_decoding(trt: Any, network: Any, graph: Graph, *, int8: bool) -> int:
    """Tell a weakly typed network which layers must not be narrowed.

    Args:
        trt: the tensorrt module, before version 11.
        network: parsed from `graph`.
        graph: the ONNX file's.
        int8: keep the heads' last convolutions in FP16 too.

    Returns:
        How many layers were told to run in FP32.
    """
    tail, last = decode_nodes(graph)
    pinned = 0
    for layer, node in layers_with_nodes(network):
        if node in tail:
            pinned += _pin(trt, layer, trt.float32)
        elif int8 and node in last:
            _pin(trt, layer, trt.float16)
    return pinned


def layers_with_nodes(network: Any) -> Iterator[tuple[Any, str]]:
    """Yield a network's layers with the name of the ONNX node each belongs to.

    The parser adds helpers without a name of their own (reshapes, constants) around a node's layer.
    They count to the node before them.
    """
    before = ""
    for place in range(network.num_layers):
        layer = network.get_layer(place)
        found = _IN_METADATA.findall(getattr(layer, "metadata", "") or "")
        name = found[0] if found else layer.name
        if not found and (name.startswith("(Unnamed") or name.startswith("ONNXTRT_")):
            name = before
        before = name
        yield layer, name


def _pin(trt: Any, layer: Any, precision: Any) -> bool:
    """Fix what a layer computes in; whole numbers are what they are."""
    outputs = [layer.get_output(place) for place in range(layer.num_outputs)]
    floats = (trt.float32, trt.float16)
    if layer.type == trt.LayerType.CONSTANT or any(one.dtype not in floats for one in outputs[:1]):
        return False
    layer.precision = precision
    for place, output in enumerate(outputs):
        if output.dtype in floats:
            layer.set_output_type(place, precision)
    return True


def engine_layers(information: str, graph: Graph) -> tuple[LayerPrecision, ...]:
    """Read what TensorRT's inspector says of an engine.

    Versions 8 to 10 write "Format/Datatype" for each tensor, 11 writes "Format" and "DataType".

    Args:
        information: JSON of `IEngineInspector.get_engine_information`.
        graph: of the ONNX file, to tell which operator a layer is.

    Raises:
        UserError: this is no such JSON.
    """
    try:
        layers = json.loads(information)["Layers"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"TensorRT's engine inspector: no JSON with Layers ({error!r})") from error
    operators = {node.name: node.operator for node in graph.nodes if node.name}
    return tuple(_layer(one, operators) for one in layers)


def _layer(layer: Any, operators: Mapping[str, str]) -> LayerPrecision:
    if not isinstance(layer, dict):  # names alone, where nothing more was kept
        return LayerPrecision(name=str(layer), kind="", operator="", precision="")
    name, kind = str(layer.get("Name", "")), str(layer.get("LayerType", ""))
    nodes = _IN_METADATA.findall(str(layer.get("Metadata", ""))) or re.split(r" ?\+ ", name)
    found = [operators[node] for node in nodes if node in operators]
    # What a fused kernel is called after is the node that holds its weights.
    weighty = [operator for operator in found if operator in ("Conv", "MatMul", "Gemm")]
    operator = (weighty or found or [""])[0]
    return LayerPrecision(name=name, kind=kind, operator=operator, precision=_precision(layer))


def _precision(layer: Mapping[str, Any]) -> str:
    """What a layer computes in: the type of its weights, or of what it is given."""
    weights = layer.get("Weights")
    if isinstance(weights, dict) and _named(str(weights.get("Type", ""))):
        return _named(str(weights["Type"]))
    for tensor in (*_tensors(layer, "Inputs"), *_tensors(layer, "Outputs")):
        for key in ("DataType", "Datatype", "Format/Datatype", "Format/DataType", "Format"):
            named = _named(str(tensor.get(key, "")))
            if named:
                return named
    return ""


def _tensors(layer: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = layer.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _named(text: str) -> str:
    lower = text.lower()
    return next((name for name, words in _TYPES if any(word in lower for word in words)), "")
