"""A stand-in for tensorrt and cuda-python, for machines without a GPU.

Only what this package calls is here, with the names and rules that NVIDIA documents (each name was
looked up in the Python bindings of TensorRT 10.3, 10.13 and 11.4). Engines compute for real, by
ONNX Runtime, on memory that the stand-in hands out; copies and launches wait in their stream until
it is synchronised, so a missing wait or a freed buffer gives wrong numbers here too. Kernels, real
precision and speed are not imitated.
"""

from __future__ import annotations

import enum
import functools
import json
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import onnx

from tests.export.cuda_double import Cuda
from tests.export.engine_double import DATA_TYPES, NUMPY, Runtime, Severity


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO = Severity
    ready = False

    def __init__(self):
        self.ready = True


class _Calibrator:
    ready = False

    def __init__(self):
        self.ready = True


class Layer:
    """A layer of a network; only a weakly typed one can be told a precision."""

    def __init__(self, trt, node, dtypes, weak):
        self._weak, self._trt = weak, trt
        self.name = node.name
        self.metadata = f"[ONNX Layer: {node.name}]"
        self.type = trt.LayerType.CONVOLUTION if node.op_type == "Conv" else trt.LayerType.OTHER
        self.operator = node.op_type
        self._outputs = [SimpleNamespace(dtype=dtype) for dtype in dtypes]
        self.num_outputs = len(dtypes)
        self.pinned, self.pinned_outputs, self.device = None, {}, None

    def get_output(self, place):
        return self._outputs[place]

    def _precision(self, value):
        assert self._weak, "a strongly typed network takes no precisions"
        self.pinned = value

    def set_output_type(self, place, value):
        assert self._weak, "a strongly typed network takes no precisions"
        self.pinned_outputs[place] = value


class WeakLayer(Layer):
    precision = property(lambda self: self.pinned, Layer._precision)


class Network:
    def __init__(self, trt, flags):
        self.trt, self.flags = trt, flags
        self.layers, self.model = [], None

    @property
    def strong(self):
        return self.trt.release >= (11, 0) or bool(self.flags & 2)

    @functools.cached_property
    def tables(self):
        graph = self.model.graph
        return (
            {one.name: one.data_type for one in graph.initializer},
            {node.name: node for node in graph.node},
            {output: node.op_type for node in graph.node for output in node.output},
        )

    @property
    def num_layers(self):
        return len(self.layers)

    def get_layer(self, place):
        return self.layers[place]

    def get_input(self, place):
        (value,) = self.model.graph.input
        dims = value.type.tensor_type.shape.dim
        return SimpleNamespace(name=value.name, shape=tuple(d.dim_value or -1 for d in dims))


class Parser:
    def __init__(self, network, logger):
        assert logger.ready, "the base class of a logger must be initialised"
        self._network = network
        self._errors = []

    @property
    def num_errors(self):
        return len(self._errors)

    def get_error(self, place):
        return SimpleNamespace(desc=lambda: self._errors[place])

    def parse(self, data):
        network, trt = self._network, self._network.trt
        model = onnx.load_from_string(data)
        for node in model.graph.node:
            if node.op_type in trt.refused:
                self._errors.append(f"In node 7 with name: {node.name}\n and operator: no importer")
                return False
        inferred = onnx.shape_inference.infer_shapes(model)
        values = (*inferred.graph.value_info, *inferred.graph.output)
        types = {v.name: v.type.tensor_type.elem_type for v in values}
        make = Layer if trt.release >= (11, 0) else WeakLayer
        network.model = model
        for node in model.graph.node:
            dtypes = [trt.DataType[DATA_TYPES[types.get(name, 1)]] for name in node.output]
            network.layers.append(make(trt, node, dtypes, not network.strong))
        return True


class Config:
    """IBuilderConfig; what a version does not have cannot be set."""

    _always = (
        "profiling_verbosity",
        "builder_optimization_level",
        "default_device_type",
        "DLA_core",
        "limits",
        "flags",
        "profiles",
        "cache",
        "calibration_profile",
        "trt",
    )
    _before_11 = ("int8_calibrator",)

    def __init__(self, trt):
        object.__setattr__(self, "trt", trt)
        self.flags, self.limits, self.profiles, self.cache = set(), {}, [], None

    def __setattr__(self, name, value):
        known = name in self._always or (name in self._before_11 and self.trt.release < (11, 0))
        assert known, f"IBuilderConfig of TensorRT {self.trt.__version__} has no {name}"
        object.__setattr__(self, name, value)

    def set_flag(self, flag):
        self.flags.add(flag)

    def set_memory_pool_limit(self, pool, size):
        self.limits[pool] = size

    def add_optimization_profile(self, profile):
        self.profiles.append(profile)
        return 0

    def set_calibration_profile(self, profile):
        assert self.trt.release < (11, 0)
        self.calibration_profile = profile
        return True

    def create_timing_cache(self, data):
        return SimpleNamespace(data=bytes(data))

    def set_timing_cache(self, cache, ignore_mismatch):
        if cache.data and not cache.data.startswith(self.trt.timing_key) and not ignore_mismatch:
            return False
        self.cache = cache
        return True

    def get_timing_cache(self):
        data = self.cache.data + b" more"
        return SimpleNamespace(serialize=lambda: memoryview(data))

    def can_run_on_DLA(self, layer):  # noqa: N802
        return layer.operator in ("Conv", "Relu", "Sigmoid", "Mul", "Add", "Concat", "MaxPool")

    def set_device_type(self, layer, device):
        layer.device = device


class Profile:
    def __init__(self):
        self.shapes = {}

    def set_shape(self, name, least, best, most):
        self.shapes[name] = (least, best, most)


class Builder:
    def __init__(self, logger):
        assert logger.ready
        self._log = logger
        self.trt = sys.modules["tensorrt"]
        self.num_DLA_cores = self.trt.dla_cores
        if self.trt.release < (11, 0):
            self.platform_has_fast_fp16 = self.platform_has_fast_int8 = self.trt.fast

    def create_network(self, flags=0):
        return Network(self.trt, flags)

    def create_builder_config(self):
        return Config(self.trt)

    def create_optimization_profile(self):
        return Profile()

    def build_serialized_network(self, network, config):
        self.trt.last = (network, config)
        quantized = any(n.op_type == "QuantizeLinear" for n in network.model.graph.node)
        problem = self._problem(network, config, quantized)
        if problem:
            self._log.log(Severity.ERROR, f"[builder.cpp::build::1]\n Error Code 4: {problem}")
            return None
        self._log.log(Severity.WARNING, "a warning\n of two lines")
        if "INT8" in self._flags(config) and not quantized:
            self._calibrate(config.int8_calibrator)
        header = {
            "release": self.trt.__version__,
            "profile": config.profiles[0].shapes if config.profiles else None,
            "dla": getattr(config, "DLA_core", None),
            "detailed": config.profiling_verbosity == self.trt.ProfilingVerbosity.DETAILED,
            "layers": [self._layer(network, config, layer) for layer in network.layers],
        }
        text = json.dumps(header).encode()
        data = network.model.SerializeToString()
        return memoryview(b"PLAN" + len(text).to_bytes(4, "little") + text + data)

    def _flags(self, config):
        return {flag.name for flag in config.flags}

    def _problem(self, network, config, quantized):
        flags = self._flags(config)
        if network.strong and flags & {"FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"}:
            return "a strongly typed network takes no precision flags"
        if "INT8" in flags and not quantized and not getattr(config, "int8_calibrator", None):
            return "calibration failure"
        if network.get_input(0).shape[0] == -1 and not config.profiles:
            return "network has dynamic inputs, but no optimization profile has been defined"
        on_dla = getattr(config, "default_device_type", None) == self.trt.DeviceType.DLA
        if on_dla and "GPU_FALLBACK" not in flags:
            return "GPU fallback is not enabled"
        return self.trt.build_problem

    def _calibrate(self, calibrator):
        assert calibrator.ready, "the base class of a calibrator must be initialised"
        self.trt.calibrated = []
        if calibrator.read_calibration_cache() is not None:
            return
        size = calibrator.get_batch_size()
        while (addresses := calibrator.get_batch(["images"])) is not None:
            (address,) = addresses
            held = self.trt.cuda.memory["device"][address]
            self.trt.calibrated.append(np.frombuffer(held, np.float32).reshape(size, -1).copy())
        calibrator.write_calibration_cache(b"TRT-100300-MinMaxCalibration\nimages: 3c010a14")

    def _layer(self, network, config, layer):
        weights, nodes, producers = network.tables
        node = nodes[layer.name]
        kinds = [weights[name] for name in node.input if name in weights]
        flags = self._flags(config)
        if layer.get_output(0).dtype not in (self.trt.float32, self.trt.float16):
            kind = "Int64"  # whole numbers are what they are
        elif any(producers.get(name) == "DequantizeLinear" for name in node.input):
            kind = "Int8"
        elif network.strong:
            kind = "Half" if 10 in kinds else "Float"
        elif layer.pinned is not None:
            kind = {"FLOAT": "Float", "HALF": "Half"}[layer.pinned.name]
        elif self.trt.ignores_flags:
            kind = "Float"
        else:
            kind = "Int8" if "INT8" in flags else "Half" if "FP16" in flags else "Float"
        return {"name": layer.name, "operator": layer.operator, "kind": kind}


def tensorrt_module(version, cuda):
    """Return the module as a version has it."""
    trt = ModuleType("tensorrt")
    release = tuple(int(part) for part in version.split(".")[:2])
    trt.__version__, trt.release, trt.cuda = version, release, cuda
    old = release < (11, 0)
    flags = ["GPU_FALLBACK", "TF32"]
    flags += ["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"] if old else []
    trt.BuilderFlag = enum.IntEnum("BuilderFlag", flags, start=0)
    network_flags = {"STRONGLY_TYPED": 1} if release >= (10, 0) else {}
    network_flags |= {"EXPLICIT_BATCH": 0} if old else {}
    trt.NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", network_flags)
    trt.DataType = enum.IntEnum("DataType", list(NUMPY), start=0)
    trt.float32, trt.float16 = trt.DataType.FLOAT, trt.DataType.HALF
    trt.LayerType = enum.IntEnum("LayerType", ["CONVOLUTION", "CONSTANT", "OTHER"])
    trt.TensorIOMode = enum.IntEnum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"], start=0)
    trt.DeviceType = enum.IntEnum("DeviceType", ["GPU", "DLA"], start=0)
    trt.MemoryPoolType = enum.IntEnum("MemoryPoolType", ["WORKSPACE"])
    trt.ProfilingVerbosity = enum.IntEnum("ProfilingVerbosity", ["LAYER_NAMES_ONLY", "DETAILED"])
    trt.LayerInformationFormat = enum.IntEnum("LayerInformationFormat", ["ONELINE", "JSON"])
    trt.nptype = lambda dtype: NUMPY[dtype.name]
    trt.ILogger, trt.Builder, trt.OnnxParser, trt.Runtime = ILogger, Builder, Parser, Runtime
    trt.init_libnvinfer_plugins = lambda logger, namespace: True
    if old:
        trt.IInt8MinMaxCalibrator = type("IInt8MinMaxCalibrator", (_Calibrator,), {})
        trt.IInt8EntropyCalibrator2 = type("IInt8EntropyCalibrator2", (_Calibrator,), {})
    trt.refused, trt.build_problem, trt.no_context = set(), None, False
    trt.dla_cores, trt.fast, trt.ignores_flags = 0, True, False
    trt.timing_key = f"{version} {cuda.name}".encode()
    trt.calibrated = []
    return trt


def install(monkeypatch, version="10.3.0", **gpu):
    """Put the stand-ins where imports find them; return both modules."""
    cuda = Cuda(**gpu)
    trt = tensorrt_module(version, cuda)
    package, bindings = ModuleType("cuda"), ModuleType("cuda.bindings")
    package.bindings, bindings.runtime = bindings, cuda
    for name, module in {
        "tensorrt": trt,
        "cuda": package,
        "cuda.bindings": bindings,
        "cuda.bindings.runtime": cuda,
    }.items():
        module.__spec__ = ModuleSpec(name, None)  # torch asks which modules there are
        monkeypatch.setitem(sys.modules, name, module)
    return trt, cuda
