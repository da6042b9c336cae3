"""Builds TensorRT engines on the machine that will run them. No torch, no onnx package needed.

`build_engine` takes an ONNX file of `vh export`. TensorRT up to 10 is told precisions by builder
flags and, for INT8, by a calibrator; TensorRT 11 has neither and takes them from the graph's own
types, so the graph is converted first.
"""

from vision_heads.export.tensorrt.build import build_engine, check_ready
from vision_heads.export.tensorrt.options import EngineOptions, EngineReport

__all__ = ["EngineOptions", "EngineReport", "build_engine", "check_ready"]
