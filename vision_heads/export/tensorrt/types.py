"""How a network comes to its precisions: by the types of its graph, or by flags of the build."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_heads.errors import require
from vision_heads.export.nodes import Graph, element_types
from vision_heads.export.tensorrt.options import EngineOptions
from vision_heads.runtime.tensorrt_modules import version_of

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Typing:
    """Where precisions come from.

    Attributes:
        strong: from the graph's types; else from flags.
        quantized: the graph says itself what is INT8.
    """

    strong: bool
    quantized: bool


def typed_source(
    trt: Any, source: Path, graph: Graph, folder: Path, options: EngineOptions, log: Log
) -> tuple[Path, Typing]:
    """Return the ONNX file to parse, and how its precisions come about.

    TensorRT 11 builds every number as the graph types it, so that a graph in FP32 has to be
    converted. Before, flags do it, and a graph that is typed already keeps its types.

    Args:
        trt: the tensorrt module.
        source: ONNX file to build from.
        graph: of it.
        folder: for a converted file.
        options: of the build.
        log: told what is converted.

    Raises:
        UserError: the file is narrower than what is wanted, or there is nothing to calibrate on.
    """
    quantized = any(node.operator == "QuantizeLinear" for node in graph.nodes)
    half = "FLOAT16" in element_types(graph).values()
    wanted, version = options.precision, version_of(trt)
    require(
        wanted != "fp32" or not (quantized or half),
        f"{source}: is {'int8' if quantized else 'fp16'} itself; build fp32 from fp32",
    )
    if version < (11, 0):
        return source, Typing(half and not quantized and version >= (10, 0), quantized)
    if wanted == "int8" and not quantized:
        return _quantized(trt, source, folder, options, log), Typing(True, True)
    if wanted == "fp16" and not half:
        return _half(trt, source, folder, log), Typing(True, False)
    return source, Typing(True, quantized)


def _half(trt: Any, source: Path, folder: Path, log: Log) -> Path:
    from vision_heads.export.fp16 import to_fp16  # noqa: PLC0415  (needs the onnx package)

    target = folder / "fp16.onnx"
    log(f"TensorRT {trt.__version__} takes types from the graph: converting to fp16")
    to_fp16(source, target)
    return target


def _quantized(trt: Any, source: Path, folder: Path, options: EngineOptions, log: Log) -> Path:
    require(
        options.pictures,
        f"int8: TensorRT {trt.__version__} has no calibrators; give a quantized ONNX file "
        "(vh export --format onnx-int8) or calibration pictures",
    )
    from vision_heads.export.quantize import quantize  # noqa: PLC0415

    target = folder / "int8.onnx"
    log(f"quantizing on {len(options.pictures)} pictures, {options.method}")
    pictures = options.pictures
    quantize(
        source, target, pictures, method=options.method, count=len(pictures), scheme="tensorrt"
    )
    return target
