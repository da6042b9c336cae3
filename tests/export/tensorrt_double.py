"""A stand-in for tensorrt and cuda-python, for machines without a GPU.

Only what this package calls is here, with the names and rules that NVIDIA documents (each name was
looked up in the Python bindings of TensorRT 10.3, 10.13 and 11.4). Engines compute for real, by
ONNX Runtime, on memory that the stand-in hands out; copies and launches wait in their stream until
it is synchronised, so a missing wait or a freed buffer gives wrong numbers here too. Kernels, real
precision and speed are not imitated.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import json
import sys
import threading
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import onnx
import onnxruntime

STATUS = enum.IntEnum(
    "cudaError_t",
    {
        "cudaSuccess": 0,
        "cudaErrorInvalidValue": 1,
        "cudaErrorMemoryAllocation": 2,
        "cudaErrorInsufficientDriver": 35,
        "cudaErrorNoDevice": 100,
        "cudaErrorStreamCaptureInvalidated": 901,
    },
)
_TEXTS = {
    1: b"invalid argument",
    2: b"out of memory",
    35: b"CUDA driver version is insufficient for CUDA runtime version",
    100: b"no CUDA-capable device is detected",
    901: b"operation failed due to a previous error during capture",
}


class Cuda(ModuleType):
    """cuda.bindings.runtime."""

    cudaError_t = STATUS  # noqa: N815
    cudaMemcpyKind = enum.IntEnum(  # noqa: N815
        "cudaMemcpyKind", {"cudaMemcpyHostToDevice": 1, "cudaMemcpyDeviceToHost": 2}
    )
    cudaStreamCaptureMode = enum.IntEnum(  # noqa: N815
        "cudaStreamCaptureMode", {"cudaStreamCaptureModeThreadLocal": 1}
    )
    cudaStreamNonBlocking = 1  # noqa: N815
    cudaHostAllocDefault = 0  # noqa: N815

    def __init__(self, *, name="Orin", capability=(8, 7), problem=None):
        super().__init__("cuda.bindings.runtime")
        self.name, self.capability, self.problem = name, capability, problem
        self.memory = {"device": {}, "host": {}}
        self.streams, self.next = {}, 1000
        self.most_bytes = 1 << 40
        self.counts = {"launched": 0, "executed": 0, "captured": 0}
        self.lock = threading.Lock()

    def cudaGetErrorString(self, status):  # noqa: N802
        return STATUS.cudaSuccess, _TEXTS[int(status)]

    def cudaGetDeviceCount(self):  # noqa: N802
        return (self.problem, None) if self.problem else (STATUS.cudaSuccess, 1)

    def cudaGetDeviceProperties(self, device):  # noqa: N802
        assert device == 0
        name = self.name.encode() + bytes(8)
        major, minor = self.capability
        return STATUS.cudaSuccess, SimpleNamespace(name=name, major=major, minor=minor)

    def cudaDriverGetVersion(self):  # noqa: N802
        return STATUS.cudaSuccess, 12060

    def cudaRuntimeGetVersion(self):  # noqa: N802
        return STATUS.cudaSuccess, 12060

    def cudaSetDevice(self, device):  # noqa: N802
        return (STATUS.cudaSuccess if device == 0 else STATUS.cudaErrorInvalidValue,)

    def cudaMalloc(self, size):  # noqa: N802
        return self._take("device", size)

    def cudaHostAlloc(self, size, flags):  # noqa: N802
        return self._take("host", size)

    def cudaFree(self, address):  # noqa: N802
        return self._give("device", address)

    def cudaFreeHost(self, address):  # noqa: N802
        return self._give("host", address)

    def cudaStreamCreateWithFlags(self, flags):  # noqa: N802
        with self.lock:
            self.next += 1
            stream = self.streams[self.next] = SimpleNamespace(
                queue=[], recording=None, broken=False
            )
            assert stream
            return STATUS.cudaSuccess, self.next

    def cudaStreamDestroy(self, handle):  # noqa: N802
        del self.streams[handle]
        return (STATUS.cudaSuccess,)

    def cudaMemcpyAsync(self, to, source, size, kind, handle):  # noqa: N802
        places = ("device", "host") if kind == 1 else ("host", "device")
        for place, address in zip(places, (to, source), strict=True):
            held = self.memory[place].get(address)
            if held is None or len(held) < size:
                return (STATUS.cudaErrorInvalidValue,)
        self.put(handle, lambda: ctypes.memmove(to, source, size))
        return (STATUS.cudaSuccess,)

    def cudaStreamSynchronize(self, handle):  # noqa: N802
        stream = self.streams[handle]
        if stream.recording is not None:
            stream.broken = True
            return (STATUS.cudaErrorStreamCaptureInvalidated,)
        for work in stream.queue:
            work()
        stream.queue.clear()
        return (STATUS.cudaSuccess,)

    def cudaStreamBeginCapture(self, handle, mode):  # noqa: N802
        self.streams[handle].recording = []
        return (STATUS.cudaSuccess,)

    def cudaStreamEndCapture(self, handle):  # noqa: N802
        stream = self.streams[handle]
        graph, stream.recording = stream.recording, None
        if stream.broken:
            stream.broken = False
            return STATUS.cudaErrorStreamCaptureInvalidated, None
        self.counts["captured"] += 1
        return STATUS.cudaSuccess, graph

    def cudaGraphInstantiate(self, graph, flags):  # noqa: N802
        assert flags == 0
        return STATUS.cudaSuccess, list(graph)

    def cudaGraphLaunch(self, graph, handle):  # noqa: N802
        self.counts["launched"] += 1
        self.streams[handle].queue += graph
        return (STATUS.cudaSuccess,)

    def cudaGraphDestroy(self, graph):  # noqa: N802
        graph.clear()
        return (STATUS.cudaSuccess,)

    cudaGraphExecDestroy = cudaGraphDestroy  # noqa: N815

    def put(self, handle, work):
        """Queue work on a stream, or record it."""
        stream = self.streams[handle]
        (stream.queue if stream.recording is None else stream.recording).append(work)

    def array(self, address, shape, dtype):
        """View device memory."""
        held = self.memory["device"][address]
        count = int(np.prod(shape))
        return np.frombuffer(held, dtype, count).reshape(shape)

    def _take(self, place, size):
        with self.lock:
            used = sum(map(len, self.memory["device"].values()))
            if place == "device" and used + size > self.most_bytes:
                return STATUS.cudaErrorMemoryAllocation, None
            held = (ctypes.c_byte * size)(*([85] * min(size, 64)))  # nobody may count on zeros
            address = ctypes.addressof(held)
            self.memory[place][address] = held
            return STATUS.cudaSuccess, address

    def _give(self, place, address):
        with self.lock:
            held = self.memory[place].pop(address, None)
        return (STATUS.cudaSuccess if held is not None else STATUS.cudaErrorInvalidValue,)


class Severity(enum.IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO = Severity
    ready = False

    def __init__(self):
        self.ready = True


class _Calibrator:
    ready = False

    def __init__(self):
        self.ready = True


_DATA_TYPES = {1: "FLOAT", 10: "HALF", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 2: "UINT8"}
_NUMPY = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
    "UINT8": np.uint8,
}


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
            dtypes = [trt.DataType[_DATA_TYPES[types.get(name, 1)]] for name in node.output]
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


class Runtime:
    def __init__(self, logger):
        assert logger.ready
        self._log = logger
        self.DLA_core = -1

    def deserialize_cuda_engine(self, plan):
        trt = sys.modules["tensorrt"]
        if plan[:4] != b"PLAN":
            self._log.log(Severity.ERROR, "Error Code 1: Serialization assertion failed")
            return None
        size = int.from_bytes(plan[4:8], "little")
        header = json.loads(bytes(plan[8 : 8 + size]))
        assert header["dla"] in (None, self.DLA_core), "the engine is for another DLA core"
        return Engine(trt, header, bytes(plan[8 + size :]))


class Engine:
    def __init__(self, trt, header, data):
        self.trt, self.header = trt, header
        self.model = onnx.load_from_string(data)
        self._data = data
        # TensorRT lists outputs in an order of its own.
        outputs = list(reversed(self.model.graph.output))
        self._values = {v.name: v for v in (*self.model.graph.input, *outputs)}
        self._input = self.model.graph.input[0].name

    @functools.cached_property
    def session(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(self._data, options)

    @property
    def num_io_tensors(self):
        return len(self._values)

    def get_tensor_name(self, place):
        return list(self._values)[place]

    def get_tensor_mode(self, name):
        modes = self.trt.TensorIOMode
        return modes.INPUT if name == self._input else modes.OUTPUT

    def get_tensor_dtype(self, name):
        return self.trt.DataType[_DATA_TYPES[self._values[name].type.tensor_type.elem_type]]

    def get_tensor_shape(self, name):
        return tuple(d.dim_value or -1 for d in self._values[name].type.tensor_type.shape.dim)

    def create_execution_context(self):
        return None if self.trt.no_context else Context(self)

    def create_engine_inspector(self):
        return Inspector(self)


class Context:
    def __init__(self, engine):
        self.engine, self.trt = engine, engine.trt
        self.addresses, self.shape, self.run_shapes = {}, None, set()
        self.busy = threading.Lock()
        shape = engine.get_tensor_shape(engine._input)
        if -1 not in shape:
            self.shape = shape

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def set_input_shape(self, name, shape):
        profile = self.engine.header["profile"]
        fixed = self.engine.get_tensor_shape(name)
        if profile is None:
            good = tuple(shape) == fixed
        else:
            least, _, most = profile[name]
            good = least[0] <= shape[0] <= most[0] and list(shape[1:]) == least[1:]
        if good:
            self.shape = tuple(shape)
        return good

    def execute_async_v3(self, handle):
        cuda, engine, shape = self.trt.cuda, self.engine, self.shape
        stream = cuda.streams[handle]
        operators = {node.op_type for node in engine.model.graph.node}
        if stream.recording is not None and (
            "NonMaxSuppression" in operators or shape not in self.run_shapes
        ):
            stream.broken = True
            return False
        assert set(self.addresses) == set(engine._values), "an address was not set"
        addresses = dict(self.addresses)

        def work():
            assert self.busy.acquire(blocking=False), "two threads at one context"
            try:
                cuda.counts["executed"] += 1
                images = cuda.array(addresses[engine._input], shape, np.float32)
                found = engine.session.run(None, {engine._input: images})
                names = [output.name for output in engine.session.get_outputs()]
                for name, values in zip(names, found, strict=True):
                    dtype = self.trt.nptype(engine.get_tensor_dtype(name))
                    cuda.array(addresses[name], values.shape, dtype)[...] = values
            finally:
                self.busy.release()

        cuda.put(handle, work)
        self.run_shapes.add(shape)
        return True


class Inspector:
    def __init__(self, engine):
        self._engine = engine
        self.execution_context = None

    def get_engine_information(self, format):
        engine = self._engine
        assert format == engine.trt.LayerInformationFormat.JSON
        if not engine.header["detailed"]:
            return json.dumps({"Layers": [layer["name"] for layer in engine.header["layers"]]})
        known = engine.header["profile"] is None or self.execution_context is not None
        return json.dumps({"Layers": [self._layer(one, known) for one in engine.header["layers"]]})

    def _layer(self, layer, known):
        kind = layer["kind"]
        words = {"Half": "FP16", "Float": "FP32", "Int8": "Int8", "Int64": "Int64"}[kind]
        if not known:
            tensor = {"Format/Datatype": "N/A due to dynamic shapes"}
        elif self._engine.trt.release >= (11, 0):
            tensor = {"Format": f"Row major linear {words} format (kLINEAR)", "DataType": kind}
        else:
            tensor = {"Format/Datatype": f"Row major linear {words} format"}
        described = {
            "Name": layer["name"],
            "LayerType": "CaskConvolution" if layer["operator"] == "Conv" else "kgen",
            "Inputs": [{"Name": "x", "Dimensions": [1], **tensor}],
            "Outputs": [{"Name": "y", "Dimensions": [1], **tensor}],
            "Metadata": f"[ONNX Layer: {layer['name']}]",
        }
        if layer["operator"] == "Conv" and known:
            described["Weights"] = {"Type": kind, "Count": 1}
        return described


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
    trt.DataType = enum.IntEnum("DataType", list(_NUMPY), start=0)
    trt.float32, trt.float16 = trt.DataType.FLOAT, trt.DataType.HALF
    trt.LayerType = enum.IntEnum("LayerType", ["CONVOLUTION", "CONSTANT", "OTHER"])
    trt.TensorIOMode = enum.IntEnum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"], start=0)
    trt.DeviceType = enum.IntEnum("DeviceType", ["GPU", "DLA"], start=0)
    trt.MemoryPoolType = enum.IntEnum("MemoryPoolType", ["WORKSPACE"])
    trt.ProfilingVerbosity = enum.IntEnum("ProfilingVerbosity", ["LAYER_NAMES_ONLY", "DETAILED"])
    trt.LayerInformationFormat = enum.IntEnum("LayerInformationFormat", ["ONELINE", "JSON"])
    trt.nptype = lambda dtype: _NUMPY[dtype.name]
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
