"""A stand-in for TensorRT's run time: engines, contexts, inspectors; see tensorrt_double.py."""

from __future__ import annotations

import enum
import functools
import json
import sys
import threading

import numpy as np
import onnx
import onnxruntime

DATA_TYPES = {1: "FLOAT", 10: "HALF", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 2: "UINT8"}
NUMPY = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
    "UINT8": np.uint8,
}


class Severity(enum.IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3


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
        return self.trt.DataType[DATA_TYPES[self._values[name].type.tensor_type.elem_type]]

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
